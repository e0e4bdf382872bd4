"""Stored transitions never cross a reset, whatever the environment's way of starting anew."""

from functools import partial
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from dqnrec_lite import DQN, DQNConfig, evaluate, make_shop
from dqnrec_lite.envs.shop import ShopEnv
from dqnrec_lite.nstep import NStepWindow
from dqnrec_lite.sessions import Sessions

LIMIT = 6  # steps


class Counting(gym.Env):
    """Shows (session, step, over, lane): what it shows last can be no other observation.

    Action 1 ends the session, and `over` is 1; after LIMIT steps it is cut off. The reward is
    10 * session + step of the observation acted on. With `reuse` every observation is the same
    array, written over, as careless environments do.
    """

    observation_space = gym.spaces.Box(0, 1e6, (4,), np.float32)
    action_space = gym.spaces.Discrete(6)

    def __init__(self, reuse: bool = False, lane: int = 0):
        self.session, self.step_number, self.over = -1, 0, False
        self.reuse, self.lane = reuse, lane
        self.array = np.zeros(4, np.float32)

    def _show(self):
        self.array[:] = self.session, self.step_number, self.over, self.lane
        return self.array if self.reuse else self.array.copy()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.session += 1
        self.step_number, self.over = 0, False
        return self._show(), {}

    def step(self, action):
        reward = 10.0 * self.session + self.step_number
        self.step_number += 1
        self.over = bool(action == 1)
        truncated = not self.over and self.step_number >= LIMIT
        return self._show(), reward, self.over, truncated, {}


LANES = [partial(Counting, lane=lane) for lane in range(3)]
MAKERS = {
    f"{mode.name.lower()}, {kind.__name__[:-9].lower()}hronous{name}": partial(
        kind, LANES, autoreset_mode=mode, **options
    )
    for mode in AutoresetMode
    for kind, name, options in [
        (SyncVectorEnv, "", {}),
        (SyncVectorEnv, ", no copies", {"copy": False}),
        (AsyncVectorEnv, "", {}),
        (AsyncVectorEnv, ", no copies", {"copy": False}),
        (AsyncVectorEnv, ", no shared memory", {"shared_memory": False}),
    ]
    if (mode, options) != (AutoresetMode.NEXT_STEP, {"shared_memory": False})
}
MAKERS |= {
    "single": Counting,
    "single, one array for all": partial(Counting, reuse=True),
    "single, wrapped": lambda: gym.wrappers.TimeLimit(Counting(), 4),
}


def check_transitions(observation, action, reward, successor, terminated, steps=1, discount=1.0):
    """Each transition by itself: it lies in one session, and is what the environment did."""
    steps, terminated = np.broadcast_to(steps, len(action)), np.asarray(terminated, bool)
    session, step, over, lane = observation.T
    np.testing.assert_array_equal(successor[:, 0], session)
    np.testing.assert_array_equal(successor[:, 1], step + steps)
    np.testing.assert_array_equal(successor[:, 2], terminated)
    np.testing.assert_array_equal(successor[:, 3], lane)
    assert not over.any(), "acted on a final observation"
    for i in range(len(action)):
        k = np.arange(steps[i])
        paid = (discount**k * (10 * session[i] + step[i] + k)).sum()
        assert reward[i] == pytest.approx(paid, rel=1e-5)
    one = steps == 1
    np.testing.assert_array_equal(terminated[one], action[one] == 1)
    assert (action[~one] != 1).all(), "a session went on after its end"


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
    rows = [np.concatenate(column) for column in zip(*(b[:6] for b in batches), strict=True)]
    check_transitions(*rows[:5])
    assert (rows[3][:, 1] == (4 if "wrapped" in name else LIMIT)).sum() > 10, "no session was cut"
    assert rows[4].sum() > 10, "no session ended"
    # every lane: each session whole, one after the other, from its first step
    for lane in range(sessions.num_envs):
        acted = [tuple(o[lane, :2]) for o, v in zip(seen, valid, strict=True) if v[lane]]
        for before, after in pairwise(acted):
            grown = after == (before[0], before[1] + 1)
            assert grown or after == (before[0] + 1, 0)


def counting_agent(n_step: int) -> DQN:
    """It acts at random, and remembers all."""
    config = DQNConfig(
        buffer_size=500,
        learning_starts=500,
        batch_size=8,
        n_step=n_step,
        discount=0.9,
        epsilon_end=1.0,
        updates_per_transition=0.0,
        hidden_sizes=(),
    )
    return DQN(Counting.observation_space, Counting.action_space, config)


def stored_by(agent: DQN) -> list[np.ndarray]:
    """The columns of its replay buffer, as far as they are filled; masks, if any, left out."""
    return [array[: len(agent.replay)] for array in agent.replay.data[:6]]


def check_memory(agent: DQN, limit: int) -> None:
    """All that the agent has seen is stored, each step once, and none across a reset."""
    observation, *_, steps = stored = stored_by(agent)
    check_transitions(*stored, discount=0.9)
    assert len(agent.replay) == agent.transitions
    session, step, _, lane = observation.T
    acted = set(zip(lane, session, step, strict=True))
    assert len(acted) == len(step), "a step is stored twice"
    before = {(lane, session, step - 1) for lane, session, step in acted if step > 0}
    assert before <= acted, "a session's first steps are missing"
    ended, cut = stored[4] == 1, (stored[4] == 0) & (stored[3][:, 1] == limit)
    assert ended.sum() > 10
    assert cut.sum() > 10
    # Shorter ones than n_step end with their session, or where the sessions were given up.
    given_up = (steps < agent.config.n_step) & ~ended & ~cut
    assert given_up.sum() <= 3 * (agent.config.n_step - 1) * 5


@pytest.mark.parametrize("every", [None, 90])
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("name", MAKERS)
def test_what_an_agent_stores_never_crosses_a_reset_nor_a_checkpoint(name, n_step, every, tmp_path):
    agent, limit = counting_agent(n_step), 4 if "wrapped" in name else LIMIT
    envs = MAKERS[name]()
    if every is None:
        agent.learn(envs, 400)
        envs.close()
        check_memory(agent, limit)
        return
    agent.learn(envs, 400, checkpoint_dir=tmp_path, checkpoint_every=every)
    envs.close()
    check_memory(agent, limit)
    check_memory(DQN.load(tmp_path), limit)
    killed = DQN.load(tmp_path, previous=True)  # as after 360 transitions
    assert 360 <= killed.unfinished.done < 400
    check_memory(killed, limit)
    fresh = MAKERS[name]()
    killed.learn(fresh, 400, checkpoint_dir=tmp_path, checkpoint_every=every)
    fresh.close()
    assert len(killed.replay) == killed.transitions >= 400
    check_transitions(*stored_by(killed), discount=0.9)


@pytest.mark.parametrize("name", MAKERS)
def test_a_score_is_the_same_whatever_the_way_of_starting_anew(name):
    """Session i of lane l ends in step (2 i + l) % 8, or is cut off before."""

    def policy(observation):
        session, step, _, lane = observation.T
        return ((2 * session + lane) % 8 == step).astype(np.int64)

    envs = MAKERS[name]()
    score = evaluate(policy, envs, 20)
    envs.close()
    lanes, limit = (1 if "single" in name else 3), 4 if "wrapped" in name else LIMIT
    session, lane = np.divmod(np.arange(20), lanes)
    lengths = np.minimum((2 * session + lane) % 8 + 1, limit)
    np.testing.assert_array_equal(score.lengths, lengths)
    np.testing.assert_array_equal(
        score.returns, 10 * session * lengths + lengths * (lengths - 1) // 2
    )


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
    assert len(agent.replay) == agent.transitions
    check_transitions(*stored_by(agent))


@pytest.mark.parametrize(
    ("observation_space", "action_space", "named"),
    [
        (gym.spaces.Box(0, 1, (2, 2)), gym.spaces.Discrete(2), "observation_space: Box of rank 1"),
        (gym.spaces.Discrete(3), gym.spaces.Discrete(2), "observation_space: Box of rank 1"),
        (gym.spaces.Box(0, 1, (2,)), gym.spaces.Box(0, 1, (1,)), "action_space: Discrete"),
        (gym.spaces.Box(0, 255, (8, 8, 3), np.uint8), gym.spaces.Discrete(2), "are images"),
    ],
)
def test_spaces_that_a_dqn_cannot_use_are_refused_by_name(observation_space, action_space, named):
    with pytest.raises(ValueError, match=named):
        DQN(observation_space, action_space)


def test_something_else_than_an_environment_is_refused():
    with pytest.raises(TypeError, match="got list"):
        Sessions([Counting()])


def test_the_one_way_of_starting_anew_that_cannot_be_relied_on_is_refused():
    """Its workers, once reset after an end, take the next step for a reset (Gymnasium 1.4)."""
    envs = AsyncVectorEnv(LANES, shared_memory=False, autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(ValueError, match="shared_memory=True or another mode expected"):
        counting_agent(1).learn(envs, 100)
    envs.close()


def test_the_mode_is_the_vectors_own_though_gymnasium_below_1_4_shares_the_metadata_of_a_class():
    envs = SyncVectorEnv([Counting], autoreset_mode=AutoresetMode.SAME_STEP)
    SyncVectorEnv([Counting], autoreset_mode=AutoresetMode.DISABLED)
    assert Sessions(envs).mode == AutoresetMode.SAME_STEP
    envs.metadata["autoreset_mode"] = AutoresetMode.NEXT_STEP  # as another made later would
    assert Sessions(envs).mode == AutoresetMode.SAME_STEP


class Careless(VectorEnv):
    """Two sessions; every array that it returns is the same one, written over in each step."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    num_envs = 2
    single_observation_space, single_action_space = (
        Counting.observation_space,
        gym.spaces.Discrete(2),
    )

    def __init__(self):
        self.observation, self.reward = np.zeros((2, 4), np.float32), np.zeros(2)
        self.terminated, self.truncated = np.zeros(2, bool), np.zeros(2, bool)

    def reset(self, *, seed=None, options=None):
        self.observation[:] = 0.0
        return self.observation, {}

    def step(self, actions):
        self.observation += 1.0
        self.reward += 1.0
        self.terminated[:] = [self.reward[0] % 3 == 0, False]
        self.truncated[:] = [False, self.reward[0] % 4 == 0]
        ended = self.terminated | self.truncated
        info = {"final_obs": self.observation + 100.0, "_final_obs": ended} if ended.any() else {}
        return self.observation, self.reward, self.terminated, self.truncated, info


def test_nothing_that_sessions_return_is_an_array_that_the_environment_writes_over():
    sessions = Sessions(Careless())
    kept = [sessions.reset(seed=0)]
    copies = [kept[0].copy()]
    for _ in range(12):
        step = sessions.step(np.zeros(2, int))
        new = [sessions.observations, *step[:5]]
        kept += new
        copies += [array.copy() for array in new]
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("told", "mode"),
    [
        ({}, AutoresetMode.NEXT_STEP),  # Gymnasium's usual one
        ({"autoreset_mode": "SameStep"}, AutoresetMode.SAME_STEP),
        ({"autoreset_mode": AutoresetMode.SAME_STEP}, AutoresetMode.SAME_STEP),
    ],
    ids=str,
)
def test_the_way_of_starting_anew_is_the_one_told_or_the_usual_one(told, mode):
    """Next-step autoreset: what follows an end brings a first observation and is no step."""
    envs = Careless()
    envs.metadata = told
    sessions = Sessions(envs)
    assert sessions.mode == mode
    sessions.reset(seed=0)
    valid = [sessions.step(np.zeros(2, int)).valid.tolist() for _ in range(5)]
    expected = np.ones((5, 2), bool)  # lane 0 ends in step 3, lane 1 in step 4
    if mode == AutoresetMode.NEXT_STEP:
        expected[3, 0] = expected[4, 1] = False
    assert valid == expected.tolist()


def test_a_seed_starts_a_single_sessions_stream_anew_in_mid_stream_too():
    env = ShopEnv(page_limit=2)
    first = [env.reset(seed=3)[0], *end_of_session(env), env.reset()[0]]
    end_of_session(env)  # the next session has begun behind the scenes
    again = [env.reset(seed=3)[0], *end_of_session(env), env.reset()[0]]
    np.testing.assert_array_equal(first, again)


def end_of_session(env: gym.Env) -> list[np.ndarray]:
    """The observations of a session, to its end."""
    seen, over = [], False
    while not over:
        observation, _, terminated, truncated, _ = env.step(0)
        seen, over = [*seen, observation], terminated or truncated
    return seen
