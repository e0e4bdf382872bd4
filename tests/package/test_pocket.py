"""PocketShop: the tables say what its text says, and a few rows are worked out here by hand."""

import numpy as np
import pytest

from dqnrec_lite import PocketShop, evaluate, policy_value, value_iteration
from dqnrec_lite.encoding import BUY, IGNORE, VIEW
from dqnrec_lite.envs.pocket import (
    GONE,
    ITEMS,
    LEAVE,
    NUM_STATES,
    START_INTEREST,
    pocket_parts,
    pocket_state,
    pocket_vector_env,
)
from dqnrec_lite.rewards import RewardWeights


@pytest.fixture(scope="module")
def shop() -> PocketShop:
    return PocketShop()


def test_there_are_at_most_300_states_and_every_row_of_probabilities_sums_to_1(shop):
    assert shop.P.shape == (81, 6, 81)
    assert NUM_STATES == 81 <= 300
    assert (shop.mdp.joint >= 0).all()
    np.testing.assert_allclose(shop.P.sum(axis=-1), 1.0, atol=1e-12)
    np.testing.assert_allclose(shop.mdp.joint.sum(axis=(2, 3)), 1.0, atol=1e-12)
    np.testing.assert_allclose(shop.mdp.start.sum(), 1.0)


def test_every_state_has_a_number_of_its_own():
    numbers = {pocket_state(i, s, last) for i in range(4) for s in range(5) for last in range(4)}
    assert numbers == set(range(GONE))


def test_a_states_number_leads_back_to_its_parts():
    parts = zip(*pocket_parts(np.arange(GONE)), strict=True)
    assert [pocket_state(*map(int, part)) for part in parts] == list(range(GONE))
    with pytest.raises(ValueError, match="states"):
        pocket_parts(np.array([GONE]))


def test_gone_is_absorbing_and_worth_nothing(shop):
    np.testing.assert_array_equal(shop.P[GONE, :, GONE], 1.0)
    np.testing.assert_array_equal(shop.R[GONE], 0.0)
    assert (value_iteration(shop, 0.95)[GONE] == 0).all()


def test_solid_tea_shown_to_a_keen_customer_by_hand(shop):
    """Interest tea, satisfaction 3, toys shown last: view 0.75, buy 0.75 x 0.6 = 0.45."""
    row = shop.mdp.joint[pocket_state(1, 3, 3), ITEMS.index("tea solid")]
    np.testing.assert_allclose(row.sum(axis=1), [0.25, 0.30, 0.0, 0.45])
    # bought, pleased (0.8: satisfaction 4, leaves 0.03), browses books next (0.7)
    assert row[BUY, pocket_state(2, 4, 1)] == pytest.approx(0.45 * 0.7 * 0.8 * 0.97)
    # bought, not moved (0.2: satisfaction 3, leaves 0.06), browses nothing (0.3)
    assert row[BUY, pocket_state(0, 3, 1)] == pytest.approx(0.45 * 0.3 * 0.2 * 0.94)
    # viewed: interest in tea, satisfaction stays
    assert row[VIEW, pocket_state(1, 3, 1)] == pytest.approx(0.30 * 0.94)
    # ignored: interest lost (0.3), satisfaction 2 (0.15; leaves 0.15)
    assert row[IGNORE, pocket_state(0, 2, 1)] == pytest.approx(0.25 * 0.3 * 0.15 * 0.85)
    gone = 0.45 * (0.8 * 0.03 + 0.2 * 0.06) + 0.30 * 0.06 + 0.25 * (0.15 * 0.15 + 0.85 * 0.06)
    assert row[:, GONE].sum() == pytest.approx(gone)
    assert shop.R[pocket_state(1, 3, 3), 0] == pytest.approx(0.45 * 1.5)


def test_dull_bait_shown_to_a_customer_of_the_lowest_satisfaction_by_hand(shop):
    """No interest, books shown last: view 0.5 x 0.6 = 0.3, buy 0.3 x 0.3 = 0.09; 0 is the floor."""
    row = shop.mdp.joint[pocket_state(0, 0, 2), ITEMS.index("books bait")]
    np.testing.assert_allclose(row.sum(axis=1), [0.7, 0.21, 0.0, 0.09])
    stays = 1 - LEAVE[0]
    assert row[BUY, pocket_state(3, 0, 2)] == pytest.approx(0.09 * 0.7 * stays)
    assert row[BUY, pocket_state(0, 0, 2)] == pytest.approx(0.09 * 0.3 * stays)
    assert row[VIEW, pocket_state(2, 0, 2)] == pytest.approx(0.21 * stays)
    assert row[IGNORE, pocket_state(0, 0, 2)] == pytest.approx(0.7 * stays)
    assert row[:, GONE].sum() == pytest.approx(LEAVE[0])


def test_bait_sold_to_a_keen_customer_by_hand(shop):
    """Interest toys, satisfaction 4: bought 0.75 x 0.6; two levels lost in 9 of 10 sales."""
    row = shop.mdp.joint[pocket_state(3, 4, 1), ITEMS.index("toys bait")]
    assert row[BUY].sum() == pytest.approx(0.45)
    assert row[BUY, pocket_state(1, 2, 3)] == pytest.approx(0.45 * 0.7 * 0.9 * 0.85)
    assert row[VIEW, pocket_state(3, 3, 3)] == pytest.approx(0.30 * 0.5 * 0.94)
    assert shop.R[pocket_state(3, 4, 1), 5] == pytest.approx(0.45 * 1.6)


def test_solid_item_shown_without_interest_by_hand(shop):
    """View 0.35, buy 0.035; the page before showed the same category: times 0.6."""
    fresh = shop.mdp.joint[pocket_state(0, 3, 0), ITEMS.index("books solid")].sum(axis=1)
    dull = shop.mdp.joint[pocket_state(0, 3, 2), ITEMS.index("books solid")]
    np.testing.assert_allclose(fresh, [0.65, 0.315, 0.0, 0.035])
    np.testing.assert_allclose(dull.sum(axis=1), [0.79, 0.189, 0.0, 0.021])
    assert dull[IGNORE, pocket_state(0, 2, 2)] == pytest.approx(0.79 * 0.45 * 0.85)


def test_the_last_category_is_the_one_just_shown(shop):
    last = np.arange(GONE) % 4
    for item in range(6):
        assert (shop.P[:GONE, item, :GONE][:, last != item // 2 + 1] == 0).all()


def test_customers_start_with_satisfaction_3_and_nothing_shown(shop):
    expected = np.zeros(NUM_STATES)
    for interest, share in enumerate(START_INTEREST):
        expected[pocket_state(interest, 3, 0)] = share
    np.testing.assert_array_equal(shop.mdp.start, expected)
    assert shop.mdp.reachable.sum() == 64


def test_observations_tell_all_states_apart(shop):
    assert len(np.unique(shop.mdp.observations, axis=0)) == NUM_STATES
    np.testing.assert_array_equal(shop.mdp.observations[:GONE].sum(axis=1), 3.0)


@pytest.mark.parametrize("discount", [0.0, 0.9, 0.95, 1.0])
def test_value_iteration_and_the_linear_solve_agree(shop, discount):
    q = value_iteration(shop, discount)
    assert np.abs(shop.R + discount * shop.P @ q.max(axis=1) - q).max() < 1e-10
    exact = policy_value(shop, q.argmax(axis=1), discount)
    np.testing.assert_allclose(q.max(axis=1), exact, atol=1e-8)


def test_a_short_sighted_shop_sells_bait_and_loses(shop):
    """Why the book needs planning: discount 0 earns clearly less than planning does."""
    start = shop.mdp.start
    myopic = policy_value(shop, value_iteration(shop, 0.0).argmax(axis=1), 0.95)
    best = value_iteration(shop, 0.95).max(axis=1)
    assert start @ myopic < 0.9 * (start @ best)


def test_rewards_follow_the_weights(shop):
    views = PocketShop(weights=RewardWeights(view=1.0, margin=0.0))
    opened = shop.mdp.joint.sum(axis=3)[..., VIEW:].sum(axis=-1)
    opened[GONE] = 0.0
    np.testing.assert_allclose(views.R, opened)


def test_simulated_returns_agree_with_the_exact_value(shop):
    policy = value_iteration(shop, 0.95).argmax(axis=1)
    exact = float(shop.mdp.start @ policy_value(shop, policy, 1.0))
    score = evaluate(greedy_by_table(shop, policy), shop.vector(500), 10_000, seed=3)
    standard_error = score.returns.std() / 100
    assert abs(score.mean - exact) < 4 * standard_error
    assert standard_error < 0.02 * exact


def greedy_by_table(shop: PocketShop, policy: np.ndarray):
    """The policy of state numbers as one of observations."""
    weights = 2.0 ** np.arange(13)
    number = {float(o @ weights): s for s, o in enumerate(shop.mdp.observations.astype(float))}
    return lambda o: policy[[number[float(row)] for row in o.astype(float) @ weights]]


def test_the_single_shop_plays_the_same_sessions_as_one_lane_of_the_vector(shop):
    single, vector = PocketShop(seed=4, page_limit=12), shop.vector(1, seed=4, page_limit=12)
    rng, ends = np.random.default_rng(0), 0
    observation, rows = single.reset(seed=4)[0], vector.reset(seed=4)[0]
    for _ in range(300):
        np.testing.assert_array_equal(observation, rows[0])
        action = int(rng.integers(6))
        observation, reward, terminated, truncated, info = single.step(action)
        rows, rewards, terminations, truncations, infos = vector.step(np.array([action]))
        assert (reward, terminated, truncated) == (rewards[0], terminations[0], truncations[0])
        assert info == {"event": infos["event"][0], "state": infos["state"][0]}
        if terminated or truncated:
            ends += 1
            np.testing.assert_array_equal(observation, infos["final_obs"][0])
            observation = single.reset()[0]
    assert ends > 10


def test_an_observation_is_interest_satisfaction_and_last_page_in_this_order(shop):
    for state, ones in [((0, 0, 0), [0, 4, 9]), ((2, 4, 1), [2, 8, 10]), ((3, 1, 2), [3, 5, 11])]:
        observation = shop.mdp.observations[pocket_state(*state)]
        np.testing.assert_array_equal(np.flatnonzero(observation), ones)
    assert not shop.mdp.observations[GONE].any()


def test_the_vector_takes_its_seed_and_its_page_limit(shop):
    for seed in (0, 5):
        expected = shop.vector(50).reset(seed=seed)[0]
        np.testing.assert_array_equal(shop.vector(50, seed=seed).reset()[0], expected)
        np.testing.assert_array_equal(pocket_vector_env(50, seed=seed).reset()[0], expected)
    zero, five = (shop.vector(50, seed=seed).reset()[0] for seed in (0, 5))
    assert not np.array_equal(zero, five)
    assert (
        shop.vector(2, page_limit=7).page_limit == pocket_vector_env(page_limit=7).page_limit == 7
    )


def test_the_vector_is_the_same_shop_its_seed_and_page_limit_too():
    shop = PocketShop(seed=5, weights=RewardWeights(view=1.0), page_limit=10)
    envs = shop.vector(50)
    assert (envs.seed, envs.page_limit) == (5, 10)
    np.testing.assert_array_equal(envs.mdp.R, shop.R)
    np.testing.assert_array_equal(envs.reset()[0], shop.vector(50, seed=5).reset()[0])
