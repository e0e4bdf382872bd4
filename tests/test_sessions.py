"""Stored transitions never cross a reset, whatever the environment's way of starting anew."""

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from dqnrec_lite import DQN, DQNConfig, make_shop
from dqnrec_lite.replay import NStepWindow
from dqnrec_lite.sessions import Sessions

LIMIT = 6  # steps


class Counting(gym.Env):
    """Shows (session, step). Action 1 ends the session; after LIMIT steps it is cut off.

    The reward is 10 * session + step of the observation acted on. With `reuse` every observation
    is the same array, written over, as careless environments do.
    """

    observation_space = gym.spaces.Box(0, 1e6, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, reuse: bool = False):
        self.session, self.step_number, self.reuse = -1, 0, reuse
        self.array = np.zeros(2, np.float32)

    def _show(self):
        self.array[:] = self.session, self.step_number
        return self.array if self.reuse else self.array.copy()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.session += 1
        self.step_number = 0
        return self._show(), {}

    def step(self, action):
        reward = 10.0 * self.session + self.step_number
        self.step_number += 1
        terminated = bool(action == 1)
        truncated = not terminated and self.step_number >= LIMIT
        return self._show(), reward, terminated, truncated, {}


def synchronous(mode: AutoresetMode, copy: bool = True):
    return SyncVectorEnv([Counting] * 3, copy=copy, autoreset_mode=mode)


MAKERS = {
    "same step": lambda: synchronous(AutoresetMode.SAME_STEP),
    "next step": lambda: synchronous(AutoresetMode.NEXT_STEP),
    "disabled": lambda: synchronous(AutoresetMode.DISABLED),
    "same step, no copies": lambda: synchronous(AutoresetMode.SAME_STEP, copy=False),
    "next step, no copies": lambda: synchronous(AutoresetMode.NEXT_STEP, copy=False),
    "disabled, no copies": lambda: synchronous(AutoresetMode.DISABLED, copy=False),
    "asynchronous": lambda: AsyncVectorEnv([Counting] * 2, autoreset_mode="NextStep"),
    "single": Counting,
    "single, one array for all": lambda: Counting(reuse=True),
    "single, wrapped": lambda: gym.wrappers.TimeLimit(Counting(), 4),
}


def check_transitions(observation, action, reward, successor, terminated, steps=1, discount=1.0):
    """Each transition by itself: it lies in one session, and is what the environment did."""
    steps = np.broadcast_to(steps, len(action))
    np.testing.assert_array_equal(successor[:, 0], observation[:, 0])
    np.testing.assert_array_equal(successor[:, 1], observation[:, 1] + steps)
    for i in range(len(action)):
        k = np.arange(steps[i])
        paid = (discount**k * (10 * observation[i, 0] + observation[i, 1] + k)).sum()
        assert reward[i] == pytest.approx(paid, rel=1e-5)
    if (steps == 1).all():
        np.testing.assert_array_equal(np.asarray(terminated, bool), action == 1)
    else:
        assert (steps[np.asarray(terminated, bool)] >= 1).all()


@pytest.mark.parametrize("name", MAKERS)
def test_steps_never_cross_a_reset_and_the_last_successor_is_the_true_one(name):
    sessions, rng = Sessions(MAKERS[name]()), np.random.default_rng(0)
    window = NStepWindow(1, 0.9)
    sessions.reset(seed=0)
    batches, seen, valid = [], [], []
    for _ in range(200):
        observation = sessions.observations
        action = (rng.random(sessions.num_envs) < 0.15).astype(np.int64)
        step = sessions.step(action)
        seen.append(observation.copy())
        valid.append(step.valid)
        batch = window.push(observation, action, step)
        assert len(batch.action) == step.valid.sum()
        batches.append(batch)
    sessions.env.close()
    rows = [np.concatenate(column) for column in zip(*batches, strict=True)]
    check_transitions(*rows[:5])
    assert (rows[3][:, 1] == (4 if "wrapped" in name else LIMIT)).sum() > 10, "no session was cut"
    assert rows[4].sum() > 10, "no session ended"
    # every lane: each session whole, one after the other, from its first step
    for lane in range(sessions.num_envs):
        acted = [tuple(o[lane]) for o, v in zip(seen, valid, strict=True) if v[lane]]
        for before, after in pairwise(acted):
            grown = after == (before[0], before[1] + 1)
            assert grown or after == (before[0] + 1, 0)


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("name", ["same step", "next step", "disabled", "single"])
def test_what_an_agent_stores_never_crosses_a_reset(name, n_step):
    envs = MAKERS[name]()
    config = DQNConfig(
        buffer_size=400,
        learning_starts=400,
        batch_size=8,
        n_step=n_step,
        discount=0.9,
        epsilon_end=1.0,
        updates_per_transition=0.0,
        hidden_sizes=(),
    )
    agent = DQN(Counting.observation_space, Counting.action_space, config)
    agent.learn(envs, 300)
    stored = [a[: len(agent.replay)] for a in agent.replay.data]
    check_transitions(*stored, discount=0.9)
    assert agent.transitions - 3 * (n_step - 1) <= len(agent.replay) <= agent.transitions
    assert stored[4].sum() > 10


def test_the_shops_last_successor_is_the_final_observation_not_the_next_customers():
    sessions, rng = Sessions(make_shop(64, page_limit=10)), np.random.default_rng(0)
    sessions.reset(seed=0)
    ended, cut = 0, 0
    for _ in range(60):
        page = sessions.observations[:, -1] * 10
        step = sessions.step(rng.integers(0, 12, 64))
        np.testing.assert_allclose(step.next_observation[:, -1] * 10, page + 1, atol=1e-4)
        over = step.terminated | step.truncated
        assert (sessions.observations[over, -1] == 0).all()
        np.testing.assert_array_equal(sessions.observations[~over], step.next_observation[~over])
        assert step.valid.all()
        ended, cut = ended + step.terminated.sum(), cut + step.truncated.sum()
    assert ended > 100
    assert cut > 10


class Broken(Counting):
    def __init__(self, where: str, what: float = np.nan):
        super().__init__()
        self.where, self.what = where, what

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        if self.where == "first observation":
            observation[1] = self.what
        return observation, info

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if self.step_number == 3:
            if self.where == "reward":
                reward = self.what
            elif self.where == "observation":
                observation[1] = self.what
        if self.where == "final observation" and (rest[0] or rest[1]):
            observation[0] = self.what
        return observation, reward, *rest


@pytest.mark.parametrize("what", [np.nan, np.inf])
@pytest.mark.parametrize(
    "where", ["reward", "observation", "first observation", "final observation"]
)
def test_what_is_no_number_is_refused_with_its_name_and_place(where, what):
    envs = SyncVectorEnv(
        [Counting, lambda: Broken(where, what)], autoreset_mode=AutoresetMode.SAME_STEP
    )
    config = DQNConfig(buffer_size=400, learning_starts=400, batch_size=8, hidden_sizes=())
    agent = DQN(Counting.observation_space, Counting.action_space, config)
    named = "observation" if where == "first observation" else where
    with pytest.raises(ValueError, match=rf"^{named}\[1(, [01])?\] is {what}: must be finite"):
        agent.learn(envs, 200)
    stored = [a[: len(agent.replay)] for a in agent.replay.data]
    assert len(agent.replay) == agent.transitions
    check_transitions(*stored)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "named"),
    [
        (gym.spaces.Box(0, 1, (2, 2)), gym.spaces.Discrete(2), "observation_space: Box of rank 1"),
        (gym.spaces.Discrete(3), gym.spaces.Discrete(2), "observation_space: Box of rank 1"),
        (gym.spaces.Box(0, 1, (2,)), gym.spaces.Box(0, 1, (1,)), "action_space: Discrete"),
        (gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(2, start=1), "action_space: Discrete"),
    ],
)
def test_spaces_that_a_dqn_cannot_use_are_refused_by_name(observation_space, action_space, named):
    with pytest.raises(ValueError, match=named):
        DQN(observation_space, action_space)


def test_something_else_than_an_environment_is_refused():
    with pytest.raises(TypeError, match="got list"):
        Sessions([Counting()])
