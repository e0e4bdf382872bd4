"""What all worlds of the book share: sessions that begin by `reset`, and room for action masks."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from test_tabular import random_mdp

from dqnrec_lite.envs.lanes import SingleLane
from dqnrec_lite.envs.tabular import TabularVectorEnv
from dqnrec_lite.sessions import Sessions

IDS = ("dqnrec_lite/Shop-v0", "dqnrec_lite/PocketShop-v0")


@pytest.mark.parametrize("name", IDS)
def test_a_step_before_the_first_reset_is_refused(name):
    with pytest.raises(ResetNeeded, match="call reset first"):
        gym.make_vec(name, num_envs=2).step(np.zeros(2, int))
    with pytest.raises(ResetNeeded, match="call reset first"):
        gym.make(name).unwrapped.step(0)


@pytest.mark.parametrize("name", IDS)
def test_a_single_session_that_has_ended_takes_no_step_before_the_next_begins(name):
    env = gym.make(name, page_limit=3).unwrapped
    env.reset(seed=0)
    while not any(env.step(0)[2:4]):
        pass
    with pytest.raises(ResetNeeded, match="the session has ended"):
        env.step(0)
    env.reset()
    env.step(0)


class OnlySome(TabularVectorEnv):
    """A world that allows in each state some of its actions only, said in Gymnasium's way."""

    allowed = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 0, 1]], bool)

    def reset(self, *, seed=None, options=None):
        observations, info = super().reset(seed=seed, options=options)
        return observations, info | {"action_mask": self.allowed[self.state]}

    def _advance(self, actions):
        reward, terminated, info = super()._advance(actions)
        return reward, terminated, info | {"action_mask": self.allowed[self.state]}

    def step(self, actions):
        *result, info = super().step(actions)
        if "final_obs" in info:
            final = {"action_mask": info["action_mask"]}
            now = self.allowed[self.state]
            info |= {"final_info": final, "_final_info": info["_final_obs"], "action_mask": now}
        return *result, info


def test_a_world_may_add_masks_and_both_views_and_every_agent_get_the_right_ones():
    """The mask of what follows a step, and the mask to act on next, which differ at an end."""
    mdp = random_mdp(3)
    vector = Sessions(OnlySome(mdp, 1, seed=2, page_limit=4))
    single = Sessions(SingleLane(OnlySome(mdp, 1, seed=2, page_limit=4)))
    vector.reset(seed=2)
    single.reset(seed=2)
    ends = 0
    for _ in range(60):
        state = int(vector.observations[0].argmax())
        np.testing.assert_array_equal(vector.action_mask, OnlySome.allowed[[state]])
        np.testing.assert_array_equal(single.action_mask, vector.action_mask)
        action = np.flatnonzero(vector.action_mask[0])[:1]
        ours, theirs = vector.step(action), single.step(action)
        np.testing.assert_array_equal(ours.next_observation, theirs.next_observation)
        if not ours.terminated[0]:
            after = int(ours.next_observation[0].argmax())
            np.testing.assert_array_equal(ours.next_action_mask[0], OnlySome.allowed[after])
            np.testing.assert_array_equal(theirs.next_action_mask[0], OnlySome.allowed[after])
        ends += int(ours.terminated[0] or ours.truncated[0])
    assert ends > 10
