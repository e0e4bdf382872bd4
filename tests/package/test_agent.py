"""The agent: settings, the training step against one written out, resuming, and learning itself."""

import json
import os
import threading
import time
import zipfile
from concurrent.futures import Future
from dataclasses import asdict, fields, replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_sessions import Counting

from dqnrec_lite import (
    DQN,
    DQNConfig,
    FiniteMDP,
    evaluate,
    make_shop,
    updates,
    value_iteration,
)
from dqnrec_lite.envs.tabular import TabularVectorEnv
from dqnrec_lite.replay import Batch
from dqnrec_lite.updates import UPDATES_PER_CALL, Learnt

SMALL = DQNConfig(hidden_sizes=(16,), batch_size=16, buffer_size=2000, learning_starts=100)
BOX, TWO = gym.spaces.Box(-10, 10, (4,), np.float32), gym.spaces.Discrete(2)


# --- Settings -----------------------------------------------------------------------------------

IMPOSSIBLE = {
    "seed": [-1, 1.5, "0", None, True, 2**60],
    "discount": [-0.01, 1.01, np.nan, np.inf, "0.9", None],
    "learning_rate": [0.0, -1e-3, 1.5, np.nan, "fast"],
    "learning_rate_end": [-1e-3, 2.0, np.nan],
    "hidden_sizes": [(0,), (8, -1), (8.0,), 8, "88", None, (True,)],
    "batch_size": [0, -1, 1.5, None, 100_001],
    "buffer_size": [0, -5, 2.5, 10],
    "learning_starts": [0, -1, 1.5, 100_001],
    "updates_per_transition": [-0.1, np.nan, np.inf, "1", 1001],
    "target_sync_every": [0, -1, 0.5],
    "target_tau": [0.0, -0.1, 1.1, np.nan],
    "epsilon_start": [-0.1, 1.1, np.nan, None],
    "epsilon_end": [-0.1, 1.1, np.nan, None],
    "epsilon_fraction": [-0.1, 1.1, np.nan, None],
    "loss": ["mae", "", None, 1],
    "double": [1, "yes", None],
    "dueling": [0, "no", None],
    "n_step": [0, -1, 1.5, None, 1001],
    "prioritised": [-0.1, 1.1, np.nan, "0.6"],
}
ALLOWED = {
    "loss": "huber",
    "double": "True or False",
    "dueling": "True or False",
    "hidden_sizes": "positive whole numbers",
}


def test_every_setting_is_tried_with_impossible_values():
    assert set(IMPOSSIBLE) == {field.name for field in fields(DQNConfig)}


def test_every_impossible_setting_is_refused_with_its_name_value_and_range():
    wrong = []
    for name, value in [(n, v) for n in IMPOSSIBLE for v in IMPOSSIBLE[n]]:
        named = f"DQNConfig.{name}={value!r}: "
        too_large = name in ("batch_size", "learning_starts") and value == 100_001
        allowed = ALLOWED.get(name, "at most buffer_size=100000" if too_large else "in [")
        if (name, value) == ("buffer_size", 10):
            named, allowed = "DQNConfig.batch_size=128: ", "at most buffer_size=10"
        try:
            DQNConfig(**{name: value})
        except ValueError as error:
            message = str(error)
            if message.startswith(named) and allowed in message and "expected" in message:
                continue
            wrong.append(message)
        else:
            wrong.append(f"{named} was allowed")
    assert not wrong, "\n".join(wrong)


def test_settings_take_numpys_numbers_and_cannot_be_changed_afterwards():
    config = DQNConfig(seed=np.int64(3), discount=np.float32(0.5), hidden_sizes=[np.int32(8)])
    assert (config.seed, config.discount, config.hidden_sizes) == (3, 0.5, (8,))
    assert type(config.seed) is int
    assert type(config.discount) is float
    json.dumps(asdict(config))
    with pytest.raises(AttributeError):
        config.seed = 4


def test_the_ends_of_the_allowed_ranges_are_allowed():
    DQNConfig(discount=0, epsilon_start=0, epsilon_end=1, epsilon_fraction=0, target_tau=1)
    DQNConfig(discount=1, learning_rate=1, learning_rate_end=0, updates_per_transition=0)
    DQNConfig(seed=0, batch_size=1, buffer_size=1, learning_starts=1, hidden_sizes=(), n_step=1)
    DQN(BOX, TWO, DQNConfig(seed=2**53))


# --- The training step, written out ---------------------------------------------------------------


class WrittenOut:
    """One hidden ReLU layer, Adam, one update at a time, in NumPy at double precision."""

    def __init__(self, agent: DQN) -> None:
        weights = [v.numpy().astype(np.float64) for v in agent.q_network.variables]
        self.online, self.target = weights, [w.copy() for w in weights]
        self.mean = [np.zeros_like(w) for w in weights]
        self.square = [np.zeros_like(w) for w in weights]
        self.config, self.updates = agent.config, 0

    def heads(self, weights):
        if not self.config.dueling:
            return weights[2], weights[3]
        one = next(i for i in (2, 4) if weights[i].shape[1] == 1)
        return (*weights[one : one + 2], *weights[6 - one : 8 - one])

    def q(self, weights, observation):
        hidden = np.maximum(observation @ weights[0] + weights[1], 0)
        heads = self.heads(weights)
        if not self.config.dueling:
            return hidden, hidden @ heads[0] + heads[1]
        advantage = hidden @ heads[2] + heads[3]
        return hidden, hidden @ heads[0] + heads[1] + advantage - advantage.mean(1, keepdims=True)

    def gradients(self, batch: Batch):
        config, rows = self.config, np.arange(len(batch.action))
        next_q = self.q(self.target, batch.next_observation)[1]
        chooses = self.q(self.online, batch.next_observation)[1] if config.double else next_q
        next_value = next_q[rows, chooses.argmax(axis=1)]
        live = 1.0 - batch.terminated
        target = batch.reward + config.discount**batch.steps * live * next_value
        hidden, q = self.q(self.online, batch.observation)
        error = q[rows, batch.action] - target
        slope = np.clip(error, -1, 1) if config.loss == "huber" else error
        by_q = np.zeros_like(q)
        by_q[rows, batch.action] = slope / len(rows)
        heads = self.heads(self.online)
        if config.dueling:
            by_heads = [by_q.sum(1, keepdims=True), by_q - by_q.mean(1, keepdims=True)]
        else:
            by_heads = [by_q]
        by_hidden = sum(g @ k.T for g, k in zip(by_heads, heads[::2], strict=True)) * (hidden > 0)
        result = {
            id(self.online[0]): batch.observation.T @ by_hidden,
            id(self.online[1]): by_hidden.sum(0),
        }
        for gradient, kernel, bias in zip(by_heads, heads[::2], heads[1::2], strict=True):
            result |= {id(kernel): hidden.T @ gradient, id(bias): gradient.sum(0)}
        return [result[id(w)] for w in self.online], np.abs(error).mean(), q[rows, batch.action]

    def update(self, batch: Batch):
        gradients, error, q = self.gradients(batch)
        self.updates += 1
        t, rate = self.updates, self.rate
        for w, g, m, v in zip(self.online, gradients, self.mean, self.square, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            w -= rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
        share = self.config.target_tau
        if share is None:
            share = float(self.updates % self.config.target_sync_every == 0)
        pairs = zip(self.online, self.target, strict=True)
        self.target = [share * w + (1 - share) * t for w, t in pairs]
        return error, q.mean()


def filled(agent: DQN, count: int = 500) -> DQN:
    """The agent with random transitions in its memory, a third of them terminal."""
    rng = np.random.default_rng(1)
    size, actions = agent.observation_size, len(agent.actions)
    first, last = rng.normal(size=(2, count, size))
    steps, ended = rng.integers(1, 4, count), rng.random(count) < 0.3
    batch = Batch(
        first, rng.integers(0, actions, count), 2 * rng.normal(size=count), last, ended, steps
    )
    agent.replay.add(batch)
    return agent


def updated(agent: DQN, count: int, rate: float = 1e-3) -> Learnt:
    """One compiled call of `count` gradient steps."""
    every = agent.config.sync_every(count)
    learnt = agent.updater.run(agent.sample(count), agent.updates, rate, every)
    agent.updates += count
    return learnt


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"double": False},
        {"loss": "huber"},
        {"dueling": True},
        {"target_tau": 0.05},
        {"target_sync_every": 1, "double": False, "loss": "huber"},
        {"dueling": True, "loss": "huber", "target_tau": 0.5},
    ],
    ids=str,
)
def test_compiled_updates_equal_those_written_out_one_at_a_time(changes):
    config = replace(SMALL, discount=0.9, learning_rate=3e-3, target_sync_every=7, seed=5)
    config = replace(config, **changes)
    agent = filled(DQN(BOX, gym.spaces.Discrete(3), config))
    reference = WrittenOut(agent)
    rng = np.random.default_rng()
    rng.bit_generator.state = agent.rng.bit_generator.state
    calls = [(UPDATES_PER_CALL, 3e-3), (UPDATES_PER_CALL, 1e-3), (1, 2e-3)]
    for count, reference.rate in calls:  # the second goes on where the first was
        learnt = updated(agent, count, reference.rate)
        measured = learnt.td_error, learnt.q_value
        batches = agent.replay.sample((count, config.batch_size), rng)
        rows = [reference.update(batches.apply(lambda a: a[i])) for i in range(count)]  # noqa: B023
        np.testing.assert_allclose(measured, np.mean(rows, axis=0), rtol=1e-3)
        for networks, weights in (
            (agent.q_network, reference.online),
            (agent.target_network, reference.target),
        ):
            for ours, theirs in zip(networks.variables, weights, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)
        for ours, handed in zip(agent.q_network.variables, learnt.weights, strict=True):
            np.testing.assert_array_equal(ours, handed)
    assert reference.updates == agent.updates == 2 * UPDATES_PER_CALL + 1


@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_the_loss_is_on_the_chosen_action_only(loss):
    """Without hidden layers each action has weights of its own: only the chosen one's move."""
    config = replace(SMALL, hidden_sizes=(), loss=loss, double=False)
    agent = filled(DQN(BOX, gym.spaces.Discrete(3), config))
    agent.replay.data.action[:] = 1
    before = agent.q_network.get_weights()
    updated(agent, UPDATES_PER_CALL)
    for old, new in zip(before, agent.q_network.get_weights(), strict=True):
        np.testing.assert_array_equal(old[..., [0, 2]], new[..., [0, 2]])
        assert (old[..., 1] != new[..., 1]).all()


def test_the_target_network_stands_still_between_copies():
    agent = filled(DQN(BOX, TWO, replace(SMALL, target_sync_every=40)))
    first = agent.target_network.get_weights()
    updated(agent, 39)
    assert all(map(np.array_equal, first, agent.target_network.get_weights()))
    assert not np.array_equal(first[0], agent.q_network.get_weights()[0])
    updated(agent, 1)
    assert all(
        map(np.array_equal, agent.q_network.get_weights(), agent.target_network.get_weights())
    )


@pytest.mark.parametrize(
    ("discount", "updates", "every"),
    [(0.0, 4000, 100), (0.95, 4000, 50), (0.99, 4000, 10), (1.0, 4000, 10), (0.9, 10, 10)],
)
def test_without_a_period_the_copies_are_a_share_of_the_call(discount, updates, every):
    """Four for each step that the discount looks ahead, 40 at least; none within 10 steps."""
    config = replace(SMALL, discount=discount, target_sync_every=None)
    assert config.sync_every(updates) == every
    assert replace(config, target_sync_every=7).sync_every(updates) == 7
    agent = filled(DQN(BOX, TWO, config))
    copies, run = [], agent.updater.run
    agent.updater.run = lambda *call: copies.append(call[3]) or run(*call)
    agent.update(updates)
    assert set(copies) == {every}


# --- The loop -------------------------------------------------------------------------------------


def chain() -> FiniteMDP:
    """Four rooms in a row. Right leads on (0.9) and out at the end (+5); left leads back (+0.2)."""
    joint, reward = np.zeros((5, 2, 2, 5)), np.zeros((5, 2, 2))
    for room in range(4):
        joint[room, 0, 0, max(room - 1, 0)] = 1.0
        joint[room, 1, :, [room, room + 1]] = [[0.1, 0.0], [0.0, 0.9]]
        reward[room, 0, 0] = 0.2
    reward[3, 1, 1] = 5.0
    joint[4, :, 0, 4] = 1.0
    observations = np.eye(5, dtype=np.float32) * (np.arange(5) < 4)[:, None]
    return FiniteMDP(joint, reward, np.ones(5) / 4 * (np.arange(5) < 4), np.arange(5) == 4,
                     observations)  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"double": False, "target_tau": 0.02},
        {"prioritised": 0.6},
        {"dueling": True, "hidden_sizes": (32,), "loss": "huber"},
    ],
    ids=str,
)
def test_the_agent_learns_the_exact_values_of_a_small_world(changes):
    """Rooms cut off at five pages, the value does not know: truncation must bootstrap."""
    mdp, discount = chain(), 0.9
    config = DQNConfig(
        discount=discount, hidden_sizes=(), learning_rate=0.03, learning_rate_end=0.0,
        batch_size=128, target_sync_every=50, epsilon_end=1.0, updates_per_transition=0.1,
        buffer_size=30_000,
    )  # fmt: skip
    config = replace(config, **changes)
    envs = TabularVectorEnv(mdp, 32, seed=0, page_limit=5)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    agent.learn(envs, 30_000)
    exact = value_iteration(mdp, discount)[:4]
    error = np.abs(agent.q_values(mdp.observations[:4]) - exact).max()
    assert error < 0.03 * np.ptp(exact.max(axis=1)), f"{error} from {exact}"
    np.testing.assert_array_equal(agent.predict(mdp.observations[:4]), exact.argmax(axis=1))


def test_n_step_returns_learn_the_values_of_the_policy_that_acts():
    """With one action there is no other policy, and n steps must give the same values as one."""
    mdp = chain()
    only_right = FiniteMDP(
        mdp.joint[:, 1:], mdp.event_reward[:, 1:], mdp.start, mdp.terminal, mdp.observations
    )
    exact = value_iteration(only_right, 0.8)[:4]
    config = DQNConfig(
        discount=0.8, hidden_sizes=(), learning_rate=0.03, learning_rate_end=0.0, n_step=3,
        target_sync_every=50, updates_per_transition=0.1, buffer_size=20_000,
    )  # fmt: skip
    envs = TabularVectorEnv(only_right, 32, seed=0, page_limit=4)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    agent.learn(envs, 20_000)
    assert set(agent.replay.data.steps[: len(agent.replay)]) == {1.0, 2.0, 3.0}
    np.testing.assert_allclose(agent.q_values(mdp.observations[:4]), exact, atol=0.12)


@pytest.mark.parametrize("lanes", [1, 7])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_learn_counts_transitions_over_all_sessions_and_no_resets(mode, lanes):
    envs = SyncVectorEnv([Counting] * lanes, autoreset_mode=mode)
    config = replace(SMALL, hidden_sizes=(), updates_per_transition=0.0)
    agent = DQN(Counting.observation_space, Counting.action_space, config)
    agent.learn(envs, 200)
    assert 200 <= agent.transitions < 200 + lanes
    assert len(agent.replay) == agent.transitions
    agent.learn(envs, 100)
    assert 300 <= agent.transitions < 300 + 2 * lanes


def test_updates_follow_the_stored_transitions_and_start_when_enough_are_stored():
    envs = make_shop(10)
    config = replace(SMALL, updates_per_transition=0.5, learning_starts=300)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    agent.learn(envs, 290)
    assert (agent.updates, agent.owed) == (0, 0)
    agent.learn(envs, 1000)
    earned = 0.5 * (1290 - 290)
    assert agent.updates == earned // UPDATES_PER_CALL * UPDATES_PER_CALL
    assert agent.updates + agent.owed == pytest.approx(earned)


def test_learning_starts_only_when_something_is_stored_with_many_steps_too():
    envs = make_shop(64)
    config = replace(SMALL, n_step=30, learning_starts=1, updates_per_transition=1.0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    agent.learn(envs, 640)
    assert agent.updates > 0


def test_epsilon_falls_in_a_line_and_then_stays():
    envs = make_shop(10)
    config = replace(SMALL, epsilon_start=0.8, epsilon_end=0.2, epsilon_fraction=0.5)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    curve = agent.learn(envs, 2000)
    progress = curve.transitions / 2000 - 10 / 2000  # of the actions in the row's last step
    expected = np.maximum(0.8 - 0.6 * progress / 0.5, 0.2)
    np.testing.assert_allclose(curve.epsilon, expected, atol=1e-9)
    at_once = DQN(
        envs.single_observation_space,
        envs.single_action_space,
        replace(config, epsilon_fraction=0.0),
    )
    np.testing.assert_allclose(at_once.learn(envs, 500).epsilon, 0.2)


def test_exploring_actions_come_as_often_as_epsilon_says():
    agent = DQN(BOX, gym.spaces.Discrete(4), SMALL)
    observations = np.random.default_rng(0).normal(size=(20_000, 4))
    greedy = agent.predict(observations)
    for epsilon in (0.0, 0.3, 1.0):
        actions = agent.act(observations, epsilon)
        assert actions.dtype == np.int64
        share = (actions != greedy).mean()
        assert abs(share - epsilon * 0.75) < 0.015
    assert np.bincount(actions, minlength=4).min() > 4700


def rates_of(agent: DQN) -> list[float]:
    """The step sizes of all calls of updates from now on."""
    rates, run = [], agent.updater.run

    def watched(batches, before, rate, every):
        rates.append(rate)
        return run(batches, before, rate, every)

    agent.updater.run = watched
    return rates


def test_the_learning_rate_falls_in_a_line_to_its_end():
    envs = make_shop(10)
    config = replace(SMALL, learning_rate=1e-2, learning_rate_end=1e-4, updates_per_transition=3.2)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    rates = rates_of(agent)
    agent.learn(envs, 500)
    progress = (np.arange(len(rates)) + 10) / 50  # the first hundred transitions only fill
    np.testing.assert_allclose(rates, 1e-2 + progress * (1e-4 - 1e-2), rtol=1e-5)
    assert rates[-1] == pytest.approx(1e-4)
    assert float(agent.updater.optimizer.learning_rate) == pytest.approx(1e-4)


def test_without_an_end_the_learning_rate_stays():
    agent = DQN(BOX, TWO, replace(SMALL, learning_rate=1e-2, learning_rate_end=None))
    assert {agent.learning_rate(progress) for progress in (0.0, 0.25, 1.0)} == {1e-2}


def test_the_curve_tells_what_happened():
    envs = make_shop(20)
    config = replace(SMALL, updates_per_transition=0.5)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    curve = agent.learn(envs, 3990)
    lengths = {len(column) for column in curve}
    assert len(lengths) == 1
    assert 40 <= lengths.pop() <= 50
    assert curve.transitions[-1] == agent.transitions == 4000
    assert (np.diff(curve.transitions) > 0).all()
    assert curve.buffer_size[-1] == len(agent.replay) == 2000
    assert np.nanmin(curve.mean_length) >= 1
    assert np.nanmax(curve.mean_length) <= 40
    assert np.isnan(curve.td_error[0])
    assert np.isfinite(curve.td_error[-5:]).all()


@pytest.mark.parametrize("total_steps", [1, 49, 51, 99, 149, 1001])
def test_the_curve_has_at_most_50_rows_and_ends_with_the_training(total_steps):
    agent = DQN(BOX, TWO, replace(SMALL, updates_per_transition=0.0))
    curve = agent.learn(gym.make("CartPole-v1"), total_steps)
    assert len(curve.transitions) <= 50
    assert curve.transitions[-1] == total_steps
    np.testing.assert_array_equal(curve.mean_return, curve.mean_length)  # a pole earns 1 a step
    assert total_steps < 149 or np.nanmax(curve.mean_return) > 8


@pytest.mark.parametrize("total_steps", [0, -1, 1.5, None, "10"])
def test_a_number_of_steps_that_is_none_is_refused(total_steps):
    with pytest.raises(ValueError, match="total_steps="):
        DQN(BOX, TWO, SMALL).learn(gym.make("CartPole-v1"), total_steps)


def test_an_environment_of_other_spaces_is_refused_by_name():
    with pytest.raises(ValueError, match="envs: spaces"):
        DQN(BOX, TWO, SMALL).learn(make_shop(4), 100)
    with pytest.raises(ValueError, match="envs: spaces"):
        DQN(BOX, gym.spaces.Discrete(3), SMALL).learn(gym.make("CartPole-v1"), 100)


@pytest.mark.filterwarnings("ignore:overflow")
def test_diverging_training_says_so():
    agent = filled(DQN(BOX, TWO, SMALL))
    agent.replay.data.reward[:] = 3e38
    with pytest.raises(ValueError, match="training diverged"):
        updated(agent, UPDATES_PER_CALL)


# --- The same again -------------------------------------------------------------------------------


def trained(seed: int, calls: int = 1, folder=None, **changes) -> DQN:
    envs = make_shop(16)
    config = replace(SMALL, seed=seed, updates_per_transition=0.2, **changes)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    for call in range(calls):
        if call and folder is not None:
            agent.save(folder)
            agent, envs = DQN.load(folder), make_shop(16, seed=77)
        agent.learn(envs, 1200)
    return agent


def assert_equal_agents(one: DQN, two: DQN) -> None:
    for ours, theirs in zip(one.variables(), two.variables(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    for ours, theirs in zip(one.replay.data, two.replay.data, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_array_equal(ours[: len(one.replay)], theirs[: len(two.replay)])
    assert one.rng.bit_generator.state == two.rng.bit_generator.state
    assert one.config == two.config
    for name in ("transitions", "updates", "owed"):
        assert getattr(one, name) == getattr(two, name)
    if one.config.prioritised is not None:
        np.testing.assert_array_equal(one.replay.tree.nodes, two.replay.tree.nodes)
        assert one.replay.largest == two.replay.largest
        assert len(np.unique(one.replay.tree.nodes)) > 100


def test_the_same_seed_trains_the_same_weights_bit_for_bit_and_another_others():
    one, two, other = trained(3), trained(3), trained(4)
    assert one.updates > 50
    assert_equal_agents(one, two)
    assert not np.array_equal(one.q_network.get_weights()[0], other.q_network.get_weights()[0])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_step": 3, "target_tau": 0.01, "learning_rate_end": None, "dueling": True},
        {"prioritised": 0.6},
    ],
    ids=str,
)
def test_training_resumes_bit_for_bit_after_saving_and_loading(tmp_path, changes):
    """Two calls, 2,400 transitions, past the end of the ring; saved in between or not."""
    assert_equal_agents(trained(5, 2, **changes), trained(5, 2, tmp_path, **changes))


def test_saving_does_not_disturb_and_loading_gives_all_of_it_back(tmp_path):
    agent = trained(6)
    agent.save(tmp_path / "a" / "new" / "folder")
    loaded = DQN.load(str(tmp_path / "a" / "new" / "folder"))
    assert_equal_agents(agent, loaded)
    assert loaded.observation_space == agent.observation_space
    assert loaded.action_space == agent.action_space
    observations = make_shop(30).reset(seed=1)[0]
    np.testing.assert_array_equal(agent.q_values(observations), loaded.q_values(observations))
    assert [path.name for path in (tmp_path / "a" / "new" / "folder").iterdir()] == ["agent.npz"]


def test_the_file_holds_no_pickle(tmp_path):
    trained(0).save(tmp_path)
    with np.load(tmp_path / "agent.npz", allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "fiU" for name in file.files)
    with zipfile.ZipFile(tmp_path / "agent.npz") as archive:
        for name in archive.namelist():
            assert name.endswith(".npy")
            assert b"'descr': '|O'" not in archive.read(name)[:200]


def torn(path):
    path.write_bytes(path.read_bytes()[:-500])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def foreign(path):
    with open(path, "wb") as file:
        np.savez(file, weights=np.zeros(3))


def pickled(path):
    with open(path, "wb") as file:
        np.savez(file, state=np.array([{}], object))


def of_another_format(path):
    with np.load(path) as file:
        arrays = dict(file)
    state = json.loads(str(arrays["state"])) | {"format": 99}
    with open(path, "wb") as file:
        np.savez(file, **(arrays | {"state": np.array(json.dumps(state))}))


def of_another_kind(path):
    with open(path, "wb") as file:
        np.savez(file, state=np.array("[1, 2]"))


def without_a_variable(path):
    with np.load(path) as file:
        arrays = dict(file)
    del arrays["variable_3"]
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def of_text(path):
    path.write_text("not an agent")


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage",
    [
        torn, flipped, foreign, pickled, of_another_format, of_another_kind, without_a_variable,
        of_text, empty,
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_refused_by_its_name(tmp_path, damage):
    filled(DQN(BOX, TWO, SMALL)).save(tmp_path)
    damage(tmp_path / "agent.npz")
    with pytest.raises(ValueError, match=r"agent\.npz: damaged, or not a saved agent"):
        DQN.load(tmp_path)


class Payload:
    """What a hostile file may hold: unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["state", "low", "variable_0"])
def test_a_pickle_in_the_file_is_not_run(tmp_path, name):
    filled(DQN(BOX, TWO, SMALL)).save(tmp_path)
    with np.load(tmp_path / "agent.npz") as file:
        arrays = dict(file)
    with open(tmp_path / "agent.npz", "wb") as file:
        np.savez(file, **(arrays | {name: np.array([Payload(tmp_path / "broken in")], object)}))
    with pytest.raises(ValueError, match=r"agent\.npz: damaged"):
        DQN.load(tmp_path)
    assert not (tmp_path / "broken in").exists()


def test_a_folder_without_an_agent_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was saved here"):
        DQN.load(tmp_path)


@pytest.mark.parametrize("breaks", ["numpy.savez", "os.fsync", "os.replace"])
def test_an_interrupted_save_leaves_the_previous_file_whole(tmp_path, monkeypatch, breaks):
    agent = filled(DQN(BOX, TWO, SMALL))
    agent.save(tmp_path)
    before = (tmp_path / "agent.npz").read_bytes()
    updated(agent, UPDATES_PER_CALL)

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(breaks, stop)
        with pytest.raises(KeyboardInterrupt):
            agent.save(tmp_path)
    assert (tmp_path / "agent.npz").read_bytes() == before
    agent.save(tmp_path)
    assert_equal_agents(agent, DQN.load(tmp_path))


# --- Asking the agent -----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_answers_have_the_promised_shapes_and_types(rows):
    agent = DQN(BOX, gym.spaces.Discrete(3), SMALL)
    observations = np.random.default_rng(0).normal(size=(rows, 4))
    q, actions = agent.q_values(observations), agent.predict(observations)
    assert (q.shape, q.dtype) == ((rows, 3), np.float32)
    assert (actions.shape, actions.dtype) == ((rows,), np.int64)
    np.testing.assert_array_equal(actions, q.argmax(axis=1))


def test_observations_of_any_layout_and_number_type_are_taken_and_left_alone():
    agent = DQN(BOX, TWO, SMALL)
    plain = np.arange(40, dtype=np.float32).reshape(10, 4)
    expected = agent.q_values(plain)
    read_only = plain.copy()
    read_only.setflags(write=False)
    wide = np.zeros((20, 8))
    wide[::2, ::2] = plain
    others = [
        read_only, wide[::2, ::2], np.asfortranarray(plain), plain[::-1][::-1],
        plain.astype(np.float64), plain.astype(int), plain.astype(np.float16), plain.tolist(),
    ]  # fmt: skip
    for observations in others:
        np.testing.assert_allclose(agent.q_values(observations), expected, rtol=1e-6)
    np.testing.assert_array_equal(plain, np.arange(40).reshape(10, 4))


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (np.zeros(4), r"\(batch, 4\) numbers expected, got float64 of shape \(4,\)"),
        (np.zeros((2, 5)), r"shape \(2, 5\)"),
        (np.zeros((1, 2, 4)), r"shape \(1, 2, 4\)"),
        (np.zeros((2, 4), object), "got object"),
        (np.zeros((2, 4), complex), "got complex128"),
        (np.full((2, 4), "1"), "got <U1"),
        (None, "got object"),
        (np.array([[0, 0, 0, 0], [0, 0, np.nan, 0]]), r"observations\[1, 2\] is nan"),
        (np.array([[0, -np.inf, 0, 0]]), r"observations\[0, 1\] is -inf"),
        (np.array([[0, 0, 0, 1e300]]), r"observations\[0, 3\] is 1e\+300"),
    ],
)
@pytest.mark.parametrize("ask", ["q_values", "predict"])
def test_observations_that_are_none_are_refused_by_what_is_wrong(ask, bad, named):
    with pytest.raises(ValueError, match="observations") as caught:
        getattr(DQN(BOX, TWO, SMALL), ask)(bad)
    caught.match(named)


def first_observations(agent: DQN, envs, steps: int) -> np.ndarray:
    """What `learn` is shown first."""
    seen, reset = [], envs.reset
    envs.reset = lambda **options: seen.append(reset(**options)) or seen[-1]
    agent.learn(envs, steps)
    return seen[0][0]


def test_the_seed_decides_weights_customers_and_exploration_each_for_itself():
    def agent_of(seed: int, **changes) -> tuple[DQN, Any]:
        envs = make_shop(200)
        config = replace(SMALL, seed=seed, updates_per_transition=0.0, **changes)
        return DQN(envs.single_observation_space, envs.single_action_space, config), envs

    (one, envs), (two, other_envs) = agent_of(1), agent_of(2)
    weights = [agent.q_network.get_weights() for agent in (one, two)]
    assert not np.array_equal(weights[0][0], weights[1][0])
    firsts = [first_observations(one, envs, 400), first_observations(two, other_envs, 400)]
    assert not np.array_equal(*firsts)
    actions = [agent.replay.data.action[:400] for agent in (one, two)]
    assert (actions[0] == actions[1]).mean() < 0.3  # by chance, one in twelve
    again = first_observations(one, envs, 400)
    assert not np.array_equal(firsts[0], again), "the second call met the same customers"


def test_a_second_call_explores_and_slows_down_as_the_first_did():
    envs = make_shop(20)
    config = replace(SMALL, learning_rate=1e-2, learning_rate_end=1e-4, updates_per_transition=3.2)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    curves, rates = [], rates_of(agent)
    for _ in range(2):
        curves.append(agent.learn(envs, 1000))
    np.testing.assert_allclose(curves[0].epsilon, curves[1].epsilon)
    assert np.ptp(curves[1].epsilon) > 0.9
    last = rates[-100:]  # two for each step of the second call
    np.testing.assert_allclose(last[:2] + last[-2:], [9.802e-3] * 2 + [1e-4] * 2, rtol=1e-5)
    assert agent.learning_rate(1.3) == pytest.approx(1e-4), "the last step may go beyond the end"


def test_the_agent_acts_by_the_network_that_learns():
    agent = filled(DQN(BOX, TWO, replace(SMALL, target_sync_every=500)))
    agent.update(UPDATES_PER_CALL)
    observations = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_allclose(agent.q_values(observations), agent.q_network(observations), 1e-5)
    assert not np.allclose(agent.q_values(observations), agent.target_network(observations), 1e-3)


# --- Learning on a thread of its own --------------------------------------------------------------


class AtOnce:
    """Stands in for the thread: what is submitted is done before `submit` returns."""

    def __init__(self, _: int) -> None:
        pass

    def submit(self, work, *inputs) -> Future:
        done = Future()
        try:
            done.set_result(work(*inputs))
        except ValueError as error:
            done.set_exception(error)
        return done

    def shutdown(self) -> None:
        pass


def thread_agent() -> tuple[DQN, Any]:
    """Sixteen customers and a call of updates every four steps, from the sixth step on."""
    envs = make_shop(16)
    config = replace(SMALL, updates_per_transition=0.5)
    return DQN(envs.single_observation_space, envs.single_action_space, config), envs


class Slow:
    """Updates that take their time: whoever should have waited for them is found out."""

    def __init__(self, agent: DQN) -> None:
        self.run, self.learnt = agent.updater.run, [agent.q_network.get_weights()]
        agent.updater.run, self.takes = self, 0.01  # seconds

    def __call__(self, *call):
        time.sleep(self.takes)
        learnt = self.run(*call)
        self.learnt.append([weight.numpy() for weight in learnt.weights])
        return learnt


def test_the_thread_changes_no_bit(monkeypatch):
    agents, curves = [], []
    for beside in (True, False):
        agent, envs = thread_agent()
        if beside:
            Slow(agent)
        else:
            monkeypatch.setattr(updates, "ThreadPoolExecutor", AtOnce)
        curves.append(agent.learn(envs, 800))
        agents.append(agent)
    assert agents[0].updates == 11 * UPDATES_PER_CALL
    assert_equal_agents(*agents)
    np.testing.assert_array_equal(np.array(curves[0]), np.array(curves[1]))


def test_the_agent_acts_by_the_weights_before_the_call_that_runs():
    agent, envs = thread_agent()
    slow, acted, act = Slow(agent), [], agent.act

    def watched(*asked):
        acted.append((max(0, (agent.transitions - 96) // 64), agent.actor.get_weights()))
        return act(*asked)

    agent.act = watched
    agent.learn(envs, 800)
    calls = len(slow.learnt) - 1
    assert calls == agent.updates / UPDATES_PER_CALL == 11
    for started, weights in acted:
        assert all(map(np.array_equal, weights, slow.learnt[max(started - 1, 0)]))
    assert len({started for started, _ in acted}) == calls
    for network in (agent.actor, agent.q_network):
        assert all(map(np.array_equal, network.get_weights(), slow.learnt[-1]))


class Curious(gym.vector.VectorWrapper):
    """Asks the agent in the midst of its training."""

    def __init__(self, envs, ask) -> None:
        super().__init__(envs)
        self.ask, self.heard = ask, []

    def step(self, actions):
        self.heard.append(self.ask())
        return super().step(actions)


def test_whoever_asks_while_it_learns_is_answered_by_the_weights_that_act_and_waits_for_nobody():
    """The third call of updates does not end before somebody has asked."""
    agent, envs = thread_agent()
    slow, asked = Slow(agent), threading.Event()
    run, looked = slow.run, np.random.default_rng(0).random((50, agent.observation_size))

    def waits(batches, before, *others):
        if before == 2 * UPDATES_PER_CALL:
            assert asked.wait(60), "whoever asked waited for the updates"
        return run(batches, before, *others)

    def ask():
        q = agent.q_values(looked)
        np.testing.assert_array_equal(agent.predict(looked), q.argmax(axis=1))
        np.testing.assert_array_equal(q, agent.q_values(looked))
        expected = by_hand(agent.actor.get_weights(), looked)
        np.testing.assert_allclose(q, expected, rtol=1e-3, atol=1e-5)
        if agent.updates > 2 * UPDATES_PER_CALL:
            asked.set()

    slow.run = waits
    agent.learn(Curious(envs, ask), 400)
    assert asked.is_set()


def by_hand(weights: list[np.ndarray], observations: np.ndarray) -> np.ndarray:
    """What one hidden layer and a linear head answer."""
    hidden = np.maximum(observations @ weights[0] + weights[1], 0)
    return hidden @ weights[2] + weights[3]


@pytest.mark.parametrize("forbidden", ["learn", "update", "save", "variables"])
def test_what_an_environment_must_not_call_is_refused_and_the_agent_can_go_on(tmp_path, forbidden):
    agent, envs = thread_agent()
    asks = {
        "learn": lambda: agent.learn(envs, 16),
        "update": lambda: agent.update(1),
        "save": lambda: agent.save(tmp_path),
        "variables": agent.variables,
    }
    with pytest.raises(RuntimeError, match=rf"learn is running: .* must not call .*{forbidden}"):
        agent.learn(Curious(envs, asks[forbidden]), 800)
    assert list(tmp_path.iterdir()) == []
    agent.learn(envs, 16)
    asks[forbidden]()


def test_an_error_on_the_thread_comes_out_of_learn_and_the_agent_can_go_on():
    agent, envs = thread_agent()
    run = agent.updater.run

    def fails(batches, before, *others):
        if before >= 3 * UPDATES_PER_CALL:
            raise ValueError("training diverged")
        return run(batches, before, *others)

    agent.updater.run = fails
    with pytest.raises(ValueError, match="training diverged"):
        agent.learn(envs, 800)
    assert all(map(np.array_equal, agent.actor.get_weights(), agent.q_network.get_weights()))
    before, agent.updater.run = agent.updates, run
    agent.learn(envs, 800)
    assert agent.updates > before + 10 * UPDATES_PER_CALL


def test_a_last_update_that_diverges_is_noticed():
    agent, envs = thread_agent()
    run = agent.updater.run

    def overflows(*call):
        learnt = run(*call)
        return learnt._replace(weights=[weight * np.inf for weight in learnt.weights])

    agent.updater.run = overflows
    with pytest.raises(ValueError, match=r"training diverged: .* not finite after 32 updates"):
        agent.learn(envs, 160)


def test_an_error_of_the_environment_leaves_no_update_half_done():
    agent, envs = thread_agent()
    slow, unfinished = Slow(agent), []
    slow.takes = 0.5

    def stop():
        if agent.transitions >= 416:  # a call has just begun
            unfinished.append(len(slow.learnt) - 1 < agent.updates / UPDATES_PER_CALL)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.learn(Curious(envs, stop), 800)
    assert unfinished == [True]
    assert agent.updates == (len(slow.learnt) - 1) * UPDATES_PER_CALL > 0
    before = agent.q_network.get_weights()
    assert all(map(np.array_equal, before, agent.actor.get_weights()))
    time.sleep(0.05)
    assert all(map(np.array_equal, before, agent.q_network.get_weights()))


def test_stopped_while_it_waits_for_updates_every_gradient_step_is_counted(monkeypatch):
    """Ctrl-C mostly comes there: the call that was queued runs to its end all the same."""
    agent, envs = thread_agent()
    slow, result = Slow(agent), Future.result

    def stop(future, *timeout):
        if agent.transitions >= 400:
            raise KeyboardInterrupt
        return result(future, *timeout)

    monkeypatch.setattr(Future, "result", stop)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(envs, 800)
    assert agent.updates == (len(slow.learnt) - 1) * UPDATES_PER_CALL > 0
    assert agent.updates + agent.owed == 0.5 * (agent.transitions - 96)


# --- An environment that is no shop ---------------------------------------------------------------


def test_it_learns_to_balance_a_pole():
    """Random keeps it up for about 22 steps."""
    envs = gym.make_vec("CartPole-v1", num_envs=8)
    config = DQNConfig(seed=0, discount=0.99, updates_per_transition=0.5)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    agent.learn(envs, 15_000)
    score = evaluate(agent.predict, envs, episodes=40, seed=1)
    assert score.mean > 70


def test_a_single_environment_trains_like_a_vector_of_one():
    results = []
    for envs in (
        gym.make("CartPole-v1"),
        SyncVectorEnv([lambda: gym.make("CartPole-v1")], autoreset_mode=AutoresetMode.SAME_STEP),
    ):
        agent = DQN(BOX, TWO, replace(SMALL, seed=1))
        agent.learn(envs, 800)
        results.append(agent)
    assert results[0].updates > 0
    assert_equal_agents(*results)
