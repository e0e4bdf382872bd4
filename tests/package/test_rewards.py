"""Rewards of events, and shaping that leaves the optimal policy alone."""

import numpy as np
import pytest
from test_tabular import random_mdp

from dqnrec_lite import value_iteration
from dqnrec_lite.encoding import BUY, CART, IGNORE, VIEW
from dqnrec_lite.rewards import RewardWeights, shaped


def test_only_the_margin_of_a_purchase_is_paid_by_default():
    events, margins = np.array([IGNORE, VIEW, CART, BUY]), np.array([1.0, 2.0, 3.0, 2.5])
    np.testing.assert_array_equal(RewardWeights().of_events(events, margins), [0, 0, 0, 2.5])


def test_a_purchase_is_also_a_view_and_a_cart():
    weights = RewardWeights(view=1.0, cart=10.0, purchase=100.0, margin=2.0)
    paid = weights.of_events(np.arange(4), np.full(4, 3.0))
    np.testing.assert_array_equal(paid, [0, 1, 11, 1 + 10 + 100 + 2 * 3])


def test_any_shape_is_taken():
    events = np.random.default_rng(0).integers(0, 4, (3, 4, 5))
    paid = RewardWeights(cart=1.0).of_events(events, np.full(events.shape, 2.0))
    assert (paid.shape, paid.dtype) == (events.shape, np.float64)


@pytest.mark.parametrize("name", ["view", "cart", "purchase", "margin"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"RewardWeights\.{name}=-?(nan|inf)"):
        RewardWeights(**{name: value})


def test_shaping_by_hand():
    """1 + 0.9 * 5 - 3 = 2.5; at a real end the next potential counts as 0: 1 - 3 = -2."""
    ones = np.ones(2)
    result = shaped(ones, 3 * ones, 5 * ones, np.array([False, True]), 0.9)
    np.testing.assert_allclose(result, [2.5, -2.0])


@pytest.mark.parametrize("discount", [0.5, 0.95, 1.0])
def test_shaping_shifts_q_by_the_potential_and_keeps_every_best_action(discount):
    mdp = random_mdp(7)
    potential = np.random.default_rng(1).normal(size=4)  # of the terminal state too: it is ignored
    joint, states = mdp.joint, np.arange(4)
    reward = shaped(
        mdp.event_reward[..., None],
        potential[:, None, None, None],
        potential[states],
        mdp.terminal[states],
        discount,
    )

    class Shaped:
        P = mdp.P
        R = np.where(mdp.terminal[:, None], 0.0, (joint * reward).sum(axis=(2, 3)))

    plain, other = value_iteration(mdp, discount), value_iteration(Shaped, discount)
    live = ~mdp.terminal
    np.testing.assert_allclose(other[live], (plain - potential[:, None])[live], atol=1e-8)
    np.testing.assert_array_equal(other.argmax(axis=1)[live], plain.argmax(axis=1)[live])


def test_a_telescoping_sum_is_left_of_shaping_in_a_session():
    rng, discount = np.random.default_rng(0), 0.9
    potential, reward = rng.normal(size=11), rng.normal(size=10)
    terminated = np.arange(10) == 9
    result = shaped(reward, potential[:-1], potential[1:], terminated, discount)
    weights = discount ** np.arange(10)
    assert weights @ result == pytest.approx(weights @ reward - potential[0])
