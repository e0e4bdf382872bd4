"""Prioritised replay as a sampler, in the loss, and in an agent."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_agent import BOX, SMALL, TWO, filled
from test_replay import equal, kept, numbered

from dqnrec_lite import DQN
from dqnrec_lite.prioritised import FLOOR, PrioritisedReplay, SumTree
from dqnrec_lite.replay import blank_transition


def buffer_of(capacity: int, alpha: float = 0.6) -> PrioritisedReplay:
    return PrioritisedReplay(capacity, blank_transition(3), alpha)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 39), st.integers(0, 5)), max_size=30))
def test_the_tree_sums_and_finds_as_a_list_does(size, changes):
    tree, model = SumTree(size), np.zeros(size)
    for where, value in changes:
        where %= size
        tree.set(np.array([where, where]), np.array([9.0, value]))  # the last one counts
        model[where] = value
    np.testing.assert_array_equal(tree[np.arange(size)], model)
    assert tree.total == model.sum()
    if model.sum() > 0:
        mass = np.arange(0, model.sum(), 0.5)
        np.testing.assert_array_equal(
            tree.find(mass), np.searchsorted(np.cumsum(model), mass, side="right")
        )
        assert model[tree.find(np.array([model.sum()]))[0]] > 0  # a mass rounded up


@pytest.mark.parametrize("stored", [37, 64, 100])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_transitions_are_drawn_in_proportion_to_their_priorities(alpha, stored):
    """With the buffer partly filled, full, and gone round; 64 places."""
    buffer = buffer_of(64, alpha)
    for first in range(stored):
        buffer.add(numbered(first, 1))
    serial = np.arange(max(0, stored - 64), stored)
    td_error = rng().normal(size=len(serial)) * 3
    buffer.update_priorities(serial, td_error)
    drawn = buffer.sample((200, 500), rng(1))
    assert drawn.serial.shape == drawn.weight.shape == (200, 500)
    np.testing.assert_allclose(drawn.observation[..., 0], drawn.serial, rtol=1e-6)
    counts = np.bincount(drawn.serial.ravel() - serial[0], minlength=len(serial))
    chance = (np.abs(td_error) + FLOOR) ** alpha
    assert stats.chisquare(counts, chance / chance.sum() * counts.sum()).pvalue > 1e-3


def test_another_exponent_would_be_noticed():
    buffer, td_error = buffer_of(64, 0.6), rng().normal(size=64) * 3
    buffer.add(numbered(0, 64))
    buffer.update_priorities(np.arange(64), td_error)
    counts = np.bincount(buffer.sample(100_000, rng(1)).serial, minlength=64)
    chance = (np.abs(td_error) + FLOOR) ** 0.5
    assert stats.chisquare(counts, chance / chance.sum() * counts.sum()).pvalue < 1e-9


@pytest.mark.parametrize("capacity", [1, 7, 8])
def test_the_newest_can_be_drawn_at_once_and_an_empty_place_never(capacity):
    buffer = buffer_of(capacity)
    with pytest.raises(ValueError, match="sample: the buffer is empty"):
        buffer.sample(3, rng())
    for newest in range(3 * capacity):
        buffer.add(numbered(newest, 1))
        drawn = set(buffer.sample(400, rng(newest)).serial.tolist())
        assert newest in drawn
        assert min(drawn) >= max(0, newest + 1 - capacity)
        buffer.update_priorities(np.array([newest]), np.array([0.0]))  # next to nothing


def test_a_new_one_gets_the_largest_priority_so_far():
    buffer = buffer_of(8, 1.0)
    buffer.add(numbered(0, 2))
    assert buffer.tree[np.arange(3)].tolist() == [1.0, 1.0, 0.0]
    buffer.update_priorities(np.array([0]), np.array([-5.0]))
    buffer.update_priorities(np.array([0]), np.array([2.0]))
    buffer.add(numbered(2, 1))
    np.testing.assert_allclose(buffer.tree[np.arange(3)], [2 + FLOOR, 1, 5 + FLOOR])


def test_what_has_been_overwritten_keeps_its_own_priority():
    buffer = buffer_of(4, 1.0)
    buffer.add(numbered(0, 4))
    buffer.add(numbered(4, 2))  # over 0 and 1
    buffer.update_priorities(np.arange(4), np.full(4, 7.0))
    np.testing.assert_allclose(buffer.tree[np.arange(4)], [1, 1, 7 + FLOOR, 7 + FLOOR])


def test_what_is_refused_changes_nothing():
    buffer = buffer_of(4)
    buffer.add(numbered(0, 3))
    before, stored = buffer.tree.nodes.copy(), kept(buffer).apply(np.copy)
    with pytest.raises(ValueError, match="td_error"):
        buffer.update_priorities(np.array([0, 1]), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="td_error"):
        buffer.update_priorities(np.array([0, 1]), np.array([1.0]))
    with pytest.raises(ValueError, match="reward"):
        buffer.add(numbered(3, 1)._replace(reward=np.array([np.inf])))
    with pytest.raises(ValueError, match="beta"):
        buffer.sample(1, rng(), beta=1.5)
    with pytest.raises(ValueError, match="alpha"):
        buffer_of(4, alpha=-0.1)
    np.testing.assert_array_equal(buffer.tree.nodes, before)
    assert equal(kept(buffer), stored)


# --- In the loss ----------------------------------------------------------------------------------


def gradient(agent: DQN, batch) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        loss = agent.updater.loss(batch.apply(tf.constant)).loss
    return [g.numpy() for g in tape.gradient(loss, agent.q_network.trainable_variables)]


def prioritised(**changes) -> DQN:
    """An agent with 60 transitions and unequal priorities."""
    agent = filled(DQN(BOX, TWO, replace(SMALL, prioritised=0.6, **changes)), 60)
    agent.replay.update_priorities(np.arange(60), rng().normal(size=60))
    return agent


def every_draw(agent: DQN, beta: float):
    """All that is stored, once, with its chance and the weight that a draw of it has."""
    drawn = agent.replay.sample(20_000, rng(2), beta)
    serial, first = np.unique(drawn.serial, return_index=True)
    assert len(serial) == len(agent.replay)
    chance = agent.replay.tree[serial] / agent.replay.tree.total
    return drawn.apply(lambda array: array[first]), chance


@pytest.mark.parametrize("changes", [{}, {"loss": "huber", "dueling": True}], ids=str)
def test_the_weighted_gradient_is_in_expectation_the_uniform_one(changes):
    """Exactly: the sum over all draws of chance times weighted gradient, not a simulation."""
    agent = prioritised(**changes)
    batch, chance = every_draw(agent, beta=1.0)
    expected = batch._replace(weight=(60 * chance * batch.weight).astype(np.float32))
    for ours, uniform in zip(
        gradient(agent, expected), gradient(agent, batch._replace(weight=None)), strict=True
    ):
        np.testing.assert_allclose(ours, uniform, atol=1e-6)
    unweighted = batch._replace(weight=(60 * chance).astype(np.float32))
    assert np.abs(gradient(agent, unweighted)[0] - gradient(agent, expected)[0]).max() > 1e-3


def test_without_beta_the_draws_count_alike_and_equal_priorities_have_weight_1():
    agent = prioritised()
    assert (every_draw(agent, beta=0.0)[0].weight == 1).all()
    agent.replay.update_priorities(np.arange(60), np.ones(60))
    np.testing.assert_allclose(every_draw(agent, beta=0.7)[0].weight, 1, rtol=1e-6)


# --- In an agent ----------------------------------------------------------------------------------


def test_a_call_of_updates_hands_back_the_td_error_of_each_draw():
    agent, plain = prioritised(), filled(DQN(BOX, TWO, SMALL), 60)
    batches = agent.sample(5)
    learnt = agent.updater.run(batches, 0, SMALL.learning_rate, 500)
    np.testing.assert_array_equal(learnt.serial, batches.serial)
    assert learnt.td_errors.shape == batches.weight.shape
    mean = np.abs(learnt.td_errors).mean()
    np.testing.assert_allclose(learnt.td_error, mean, rtol=1e-5)
    # One at a time: the same.
    for i in range(5):
        row = batches.apply(lambda array: array[i])  # noqa: B023
        found = plain.updater.step(row)
        plain.updater.sync_if_due(i + 1, 500)
        np.testing.assert_allclose(learnt.td_errors[i], found.td_error, rtol=1e-3, atol=1e-4)


def test_learning_from_what_is_stored_sets_the_priorities_to_the_td_errors():
    agent = prioritised(learning_rate=1e-12, batch_size=60)
    agent.update(64)
    stored = agent.replay.data.apply(lambda kept: kept[:60])
    error = np.abs(agent.updater.loss(stored.apply(tf.constant)).td_error)
    np.testing.assert_allclose(agent.replay.tree[np.arange(60)], (error + FLOOR) ** 0.6, rtol=1e-4)


def test_beta_is_annealed_over_a_call():
    agent = prioritised()
    for progress, beta in [(0.0, 0.4), (0.5, 0.7), (1.0, 1.0), (1.2, 1.0)]:
        batch = agent.sample(4, progress)
        chance = agent.replay.tree[batch.serial.numpy()] / agent.replay.tree.total
        np.testing.assert_allclose(batch.weight, (60 * chance) ** -beta, rtol=1e-5)
