"""Forbidden actions: never taken, and never counted on by a target, however the masks come."""

from functools import partial
from itertools import product

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from scipy import stats
from test_agent import assert_equal_agents, filled
from test_sessions import Counting

from dqnrec_lite import DQN, DQNConfig, checkpoint, evaluate
from dqnrec_lite.nstep import NStepWindow
from dqnrec_lite.replay import Batch
from dqnrec_lite.sessions import Sessions
from dqnrec_lite.targets import double_dqn_value, dqn_value

ACTIONS = 6


def mask_of(observation: np.ndarray) -> np.ndarray:
    """What `Gated` allows where it shows this, (..., 4) -> (..., 6): three or four of six."""
    session, step, _, lane = np.moveaxis(np.asarray(observation, int), -1, 0)
    return (session + 2 * step + lane)[..., None] % 3 != np.arange(ACTIONS) % 3


class Gated(Counting):
    """`Counting` with masks, int8 as Gymnasium's own; a forbidden action is an error.

    Nothing is allowed where a session has ended. `lie` changes the info of a session's third step.
    """

    def __init__(self, lane: int = 0, lie=None) -> None:
        super().__init__(lane=lane)
        self.lie = lie

    def _info(self) -> dict:
        shown = self._show()
        return {"action_mask": (mask_of(shown) & (not self.over)).astype(np.int8)}

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed)
        return observation, self._info()

    def step(self, action):
        assert mask_of(self._show())[action], f"action {action} is forbidden"
        *rest, _ = super().step(action)
        info = self._info()
        if self.lie and self.step_number == 3:
            self.lie(info)
        return *rest, info


LANES = [partial(Gated, lane) for lane in range(3)]
MAKERS = {
    f"{mode.name.lower()}, {kind.__name__[:-9].lower()}hronous": partial(
        kind, LANES, autoreset_mode=mode
    )
    for mode in AutoresetMode
    for kind in (SyncVectorEnv, AsyncVectorEnv)
} | {"single": Gated, "single, wrapped": lambda: gym.wrappers.TimeLimit(Gated(), 4)}


def gated_agent(**changes) -> DQN:
    config = DQNConfig(
        buffer_size=400, learning_starts=50, batch_size=8, updates_per_transition=0.2,
        hidden_sizes=(8,), discount=0.9, epsilon_end=0.2,
    )  # fmt: skip
    changed = DQNConfig(**(vars(config) | changes))
    return DQN(Counting.observation_space, Counting.action_space, changed)


# --- From the environment into the memory ---------------------------------------------------------


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("name", MAKERS)
def test_no_forbidden_action_is_taken_and_the_mask_stored_is_the_successors(name, n_step, tmp_path):
    """The true successor's, at an end and at a cut too; `Gated` tells its mask in what it shows."""
    agent, envs = gated_agent(n_step=n_step), MAKERS[name]()
    agent.learn(envs, 300, checkpoint_dir=tmp_path, checkpoint_every=40)  # sessions are given up
    envs.close()
    assert agent.updates > 0
    data = agent.replay.data.apply(lambda array: array[: len(agent.replay)])
    assert len(data.action) == agent.transitions
    rows = np.arange(len(data.action))
    assert mask_of(data.observation)[rows, data.action].all()
    goes_on = data.terminated == 0
    expected = mask_of(data.next_observation)
    np.testing.assert_array_equal(data.next_action_mask[goes_on], expected[goes_on])
    limit = 4 if "wrapped" in name else 6
    assert (goes_on & (data.next_observation[:, 1] == limit)).any(), "no session was cut off"
    assert (~goes_on).any(), "no session ended"
    assert (
        n_step == 1 or (goes_on & (data.steps < n_step) & (data.next_observation[:, 1] < 4)).any()
    )


def test_sessions_tell_what_is_allowed_where_they_stand():
    for maker in MAKERS.values():
        sessions, rng = Sessions(maker()), np.random.default_rng(0)
        sessions.reset(seed=0)
        for _ in range(60):
            goes_on = sessions.observations[:, 2] == 0
            expected = mask_of(sessions.observations)
            np.testing.assert_array_equal(sessions.action_mask[goes_on], expected[goes_on])
            allowed = np.where(sessions.action_mask, rng.random((sessions.num_envs, ACTIONS)), -1)
            sessions.step(allowed.argmax(axis=1))
        sessions.env.close()


def test_a_transition_of_several_steps_carries_the_mask_of_the_state_that_bootstraps():
    sessions, window = Sessions(Gated()), NStepWindow(3, 0.9)
    sessions.reset(seed=0)
    stored = []
    for _ in range(4):
        observation, mask = sessions.observations, sessions.action_mask
        action = np.array([int(np.flatnonzero(mask[0])[-1])])
        stored.append(window.push(observation, action, sessions.step(action)))
    stored.append(window.flush(sessions))
    columns = [column for column in zip(*stored, strict=True) if column[0] is not None]
    batch = Batch(*map(np.concatenate, columns))
    assert batch.next_observation[:, 1].tolist() == [3, 4, 4, 4]
    np.testing.assert_array_equal(batch.next_action_mask, mask_of(batch.next_observation))


def test_masks_survive_saving_and_resuming_bit_for_bit(tmp_path):
    class Killed(BaseException):
        pass

    def one_save(*what):
        write(*what)
        raise Killed

    def new_agent():
        envs = SoldOut(4)
        config = DQNConfig(
            buffer_size=300, learning_starts=50, batch_size=8, updates_per_transition=0.5, n_step=2
        )
        return DQN(envs.single_observation_space, envs.single_action_space, config)

    write = checkpoint.write
    call = {"total_steps": 600, "checkpoint_every": 200}
    whole, killed = new_agent(), new_agent()
    whole.learn(SoldOut(4), checkpoint_dir=tmp_path / "whole", **call)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "write", one_save)
        with pytest.raises(Killed):
            killed.learn(SoldOut(4), checkpoint_dir=tmp_path / "killed", **call)
    loaded = DQN.load(tmp_path / "killed")
    assert_equal_agents(loaded, killed)
    assert loaded.updates > 0
    assert not loaded.replay.data.next_action_mask[: len(loaded.replay)].all()
    loaded.learn(SoldOut(4), checkpoint_dir=tmp_path / "killed", **call)
    assert_equal_agents(loaded, whole)


def test_stored_without_masks_and_then_with_what_came_first_allows_all():
    agent = gated_agent()
    filled(agent, 20)
    assert agent.replay.data.next_action_mask is None
    some = agent.replay.sample(5, np.random.default_rng(0))._replace(terminated=np.zeros(5))
    agent.replay.add(some._replace(next_action_mask=np.eye(5, ACTIONS, dtype=bool)))
    agent.replay.add(some)
    masks = agent.replay.data.next_action_mask
    assert masks[:20].all()
    assert masks[20:25].sum() == 5
    assert masks[25:30].all()


# --- Acting ---------------------------------------------------------------------------------------


def wishful() -> DQN:
    """An agent for which action 5 is worth most by far, then 4, and so on."""
    agent = gated_agent(hidden_sizes=())
    agent.set_weights([np.zeros((4, ACTIONS)), 100.0 * np.arange(ACTIONS)])
    return agent


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_allowed_actions_come_as_often_as_epsilon_says_and_others_never(epsilon):
    agent = wishful()
    allowed = np.array([True, False, True, True, False, False])
    count = 20_000
    taken = agent.act(np.zeros((count, 4), np.float32), epsilon, np.tile(allowed, (count, 1)))
    seen = np.bincount(taken, minlength=ACTIONS)
    expected = count * (epsilon * allowed / 3 + (1 - epsilon) * (np.arange(ACTIONS) == 3))
    assert (seen[expected == 0] == 0).all()
    likely = expected > 0
    assert stats.chisquare(seen[likely], expected[likely]).pvalue > 1e-4 or epsilon == 0


def test_predict_takes_the_best_allowed_action_of_each_row():
    agent, observations = wishful(), np.zeros((4, 4))
    masks = np.array(
        [[1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0]]
    )
    assert agent.predict(observations, action_mask=masks).tolist() == [5, 3, 0, 4]
    assert agent.predict(observations, action_mask=masks.astype(bool)).tolist() == [5, 3, 0, 4]
    assert agent.predict(observations).tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize(
    ("mask", "named"),
    [
        (np.zeros((2, ACTIONS)), r"action_mask\[0\]: at least one action must be allowed"),
        (np.array([[1] * 6, [0] * 6]), r"action_mask\[1\]: at least one"),
        (np.ones(ACTIONS), r"action_mask: \(2, 6\) numbers expected"),
        (np.ones((2, 5)), r"action_mask: \(2, 6\)"),
        (np.full((2, 6), 0.5), r"action_mask\[0, 0\]=0.5: must be 0 or 1"),
        (np.full((2, 6), np.nan), r"action_mask\[0, 0\] is nan"),
        (np.full((2, 6), None), r"action_mask: \(2, 6\) numbers expected"),
    ],
)
def test_masks_that_are_none_are_refused_by_predict(mask, named):
    with pytest.raises(ValueError, match=named):
        wishful().predict(np.zeros((2, 4)), action_mask=mask)


# --- Refusals -------------------------------------------------------------------------------------


def nothing_allowed(info):
    info["action_mask"] = np.zeros(ACTIONS, np.int8)


def no_flags(info):
    info["action_mask"] = np.full(ACTIONS, 2, np.int8)


@pytest.mark.parametrize(
    ("lie", "named"),
    [
        (nothing_allowed, r"action_mask\[\d\]: at least one action must be allowed, none is"),
        (no_flags, r"action_mask\[\d, \d\]=2: must be 0 or 1"),
        (lambda info: info.clear(), r"no action_mask of session \d, which has had one so far"),
    ],
)
@pytest.mark.parametrize("name", ["single", *(n for n in MAKERS if " sync" in n)])
def test_a_session_whose_mask_fails_or_goes_missing_is_refused(name, lie, named):
    lanes = [Gated, partial(Gated, 1, lie)]
    mode = None if name == "single" else AutoresetMode[name.split(",")[0].upper()]
    envs = Gated(lie=lie) if mode is None else SyncVectorEnv(lanes, autoreset_mode=mode)
    agent = gated_agent()
    with pytest.raises(ValueError, match=named):
        agent.learn(envs, 300)
    assert len(agent.replay) == agent.transitions, "something half-written"


class Late(Counting):
    """A mask after a step, but none after a reset."""

    def step(self, action):
        return *super().step(action)[:4], {"action_mask": np.ones(ACTIONS, np.int8)}


def test_a_mask_after_steps_but_not_after_reset_is_refused():
    for envs in (Late(), SyncVectorEnv([Late] * 2)):
        with pytest.raises(ValueError, match="info of reset: action_mask expected there too"):
            gated_agent().learn(envs, 20)


def test_a_forbidden_action_reaches_no_session():
    sessions = Sessions(Gated())
    sessions.reset(seed=0)
    forbidden = int(np.argmin(sessions.action_mask[0]))
    with pytest.raises(ValueError, match=rf"actions\[0\]={forbidden}: the action mask forbids it"):
        sessions.step(np.array([forbidden]))
    assert sessions.env.envs[0].step_number == 0


def test_evaluate_hands_the_mask_to_the_policy_and_refuses_what_it_forbids():
    asked = []

    def policy(observations, action_mask):
        goes_on = observations[:, 2] == 0
        np.testing.assert_array_equal(action_mask[goes_on], mask_of(observations)[goes_on])
        asked.append(1)
        return action_mask.argmax(axis=1)

    score = evaluate(policy, SyncVectorEnv(LANES), 12)
    assert asked
    assert len(score.lengths) == 12
    evaluate(wishful().predict, SyncVectorEnv(LANES), 12)
    with pytest.raises(ValueError, match="the action mask forbids it"):
        evaluate(lambda observations, action_mask: np.zeros(3, int), SyncVectorEnv(LANES), 12)


# --- Targets --------------------------------------------------------------------------------------

Q_ONLINE = np.array([[1.0, 5.0, 3.0], [0.0, -1.0, -2.0]], np.float32)
Q_TARGET = np.array([[10.0, 2.0, 7.0], [-4.0, 9.0, 1.0]], np.float32)
MASK = np.array([[False, True, True], [True, False, True]])


def test_targets_obey_the_mask_by_hand_in_numpy_and_in_tensorflow():
    for kind in (np.asarray, tf.constant):
        online, target, mask = map(kind, (Q_ONLINE, Q_TARGET, MASK))
        np.testing.assert_array_equal(dqn_value(target, mask), [7.0, 1.0])
        np.testing.assert_array_equal(double_dqn_value(online, target, mask), [2.0, -4.0])
        only_last = kind(np.array([[False, False, True]] * 2))
        np.testing.assert_array_equal(double_dqn_value(online, target, only_last), [7.0, 1.0])


@pytest.mark.parametrize("double", [False, True])
def test_a_gradient_step_uses_the_masked_target_and_all_allowed_is_as_no_mask(double):
    agent = filled(gated_agent(double=double, target_sync_every=1000), 300)
    agent.update(64)  # the two networks differ
    plain = agent.replay.sample((1, 8), np.random.default_rng(0))
    masks = np.random.default_rng(1).random((1, 8, ACTIONS)) < 0.3
    masks[..., 2] |= ~masks.any(axis=-1)

    def one(batch):
        return batch.apply(lambda array: tf.constant(array[0]))

    all_allowed = plain._replace(next_action_mask=np.ones_like(masks))
    masked = plain._replace(next_action_mask=masks)
    errors = [agent.updater.loss(one(b)).td_error.numpy() for b in (plain, all_allowed, masked)]
    np.testing.assert_array_equal(errors[0], errors[1])
    online, target = agent.q_network, agent.target_network
    q_target = np.where(masks[0], target(plain.next_observation[0]), -np.inf)
    q_online = np.where(masks[0], online(plain.next_observation[0]), -np.inf)
    chosen = (q_online if double else q_target).argmax(axis=1)
    value, live = q_target[np.arange(8), chosen], 1 - plain.terminated[0]
    q = online(plain.observation[0]).numpy()[np.arange(8), plain.action[0]]
    expected = plain.reward[0] + 0.9 ** plain.steps[0] * live * value - q
    np.testing.assert_allclose(errors[2], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(errors[2], errors[0])
    compiled = agent.updater.run(masked.apply(tf.constant), agent.updates, 1e-3, 1000)
    assert float(compiled.td_error) == pytest.approx(np.abs(expected).mean(), rel=1e-4)


class SoldOut(VectorEnv):
    """Six rooms with four items each. Item 3 pays most by far, but is in stock one time in ten.

    What is in stock is drawn anew at each step and shown by the mask only. Item 0 always is, the
    others with the chances of STOCK. A session ends with chance 0.15, and is cut off at 20 steps.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    ROOMS, ITEMS, STOCK, END = 6, 4, np.array([1.0, 0.6, 0.6, 0.1]), 0.15

    def __init__(self, num_envs: int = 32) -> None:
        rng = np.random.default_rng(7)
        self.leads = rng.dirichlet(np.ones(self.ROOMS), (self.ROOMS, self.ITEMS))
        self.pays = rng.random((self.ROOMS, self.ITEMS))
        self.pays[:, 3] += 5.0
        self.num_envs = num_envs
        self.single_observation_space = gym.spaces.Box(0, 1, (self.ROOMS,), np.float32)
        self.single_action_space = gym.spaces.Discrete(self.ITEMS)

    def exact(self, discount: float, masked: bool) -> np.ndarray:
        """(rooms, items): action values by value iteration, over every stock that there can be."""
        stocks = np.array(list(product([False, True], repeat=self.ITEMS)))
        chance = np.where(stocks, self.STOCK, 1 - self.STOCK).prod(axis=1)
        if not masked:
            stocks, chance = np.ones((1, self.ITEMS), bool), np.ones(1)
        stocks, chance = stocks[chance > 0], chance[chance > 0]
        q = np.zeros((self.ROOMS, self.ITEMS))
        for _ in range(2000):
            best = np.where(stocks[:, None], q, -np.inf).max(axis=2)  # (stocks, rooms)
            q = self.pays + discount * (1 - self.END) * self.leads @ (chance @ best)
        return q

    def reset(self, *, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.room = self.rng.integers(0, self.ROOMS, self.num_envs)
        self.age = np.zeros(self.num_envs, int)
        self.stock = self._stock()
        return self._shown(), {"action_mask": self.stock}

    def step(self, actions):
        rows = np.arange(self.num_envs)
        assert self.stock[rows, actions].all()
        reward = self.pays[self.room, actions]
        ways = self.leads[self.room, actions].cumsum(axis=1)
        self.room = (ways < self.rng.random(self.num_envs)[:, None] * ways[:, -1:]).sum(axis=1)
        self.age += 1
        terminated = self.rng.random(self.num_envs) < self.END
        truncated = ~terminated & (self.age >= 20)
        ended = terminated | truncated
        info = {
            "final_obs": self._shown(),
            "final_info": {"action_mask": self._stock(), "_action_mask": ended},
        }
        self.room = np.where(ended, self.rng.integers(0, self.ROOMS, self.num_envs), self.room)
        self.age[ended] = 0
        self.stock = self._stock()
        return self._shown(), reward, terminated, truncated, info | {"action_mask": self.stock}

    def _stock(self):
        return self.rng.random((self.num_envs, self.ITEMS)) < self.STOCK

    def _shown(self):
        return np.eye(self.ROOMS, dtype=np.float32)[self.room]


@pytest.mark.parametrize("double", [False, True])
def test_values_are_those_of_what_can_be_had_exactly(double):
    """A target that counted on the sold-out item would promise several times as much."""
    envs, discount = SoldOut(), 0.9
    exact, unmasked = (envs.exact(discount, masked) for masked in (True, False))
    assert (unmasked - exact).min() > 1.5 * np.ptp(exact), "the mask hardly matters here"
    config = DQNConfig(
        discount=discount, hidden_sizes=(), learning_rate=0.03, learning_rate_end=0.0,
        target_sync_every=50, epsilon_end=1.0, updates_per_transition=0.1, buffer_size=40_000,
        double=double,
    )  # fmt: skip
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    agent.learn(envs, 40_000)
    error = np.abs(agent.q_values(np.eye(envs.ROOMS)) - exact).max()
    assert error < 0.1 * np.ptp(exact), f"{error} from {exact}"
