"""Evaluation: whole sessions, the same customers for everybody, and intervals that hold."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from scipy import stats
from test_sessions import Counting

from dqnrec_lite import PocketShop, evaluate, make_shop, policy_value
from dqnrec_lite.baselines import attentive_policy, fixed_policy, random_policy
from dqnrec_lite.evaluation import (
    Score,
    confidence_interval,
    interquartile_mean,
    paired_difference,
)
from dqnrec_lite.shop import ShopEnv


def never_end(observations: np.ndarray) -> np.ndarray:
    return np.zeros(len(observations), int)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(("lanes", "episodes"), [(1, 4), (3, 7), (4, 8), (5, 3)])
def test_it_plays_the_asked_for_number_of_whole_sessions(mode, lanes, episodes):
    """A Counting session of 6 steps returns 60 session + 15; each lane plays its first ones."""
    envs = SyncVectorEnv([Counting] * lanes, autoreset_mode=mode)
    score = evaluate(never_end, envs, episodes)
    session = np.arange(episodes) // lanes
    np.testing.assert_array_equal(score.lengths, 6)
    np.testing.assert_array_equal(score.returns, 60 * session + 15)


def test_short_sessions_are_not_over_represented():
    """Sessions that end early end first: whoever counts the first to end finds too low a value."""
    shop = PocketShop()
    policy = np.zeros(81, int)
    exact = float(shop.mdp.start @ policy_value(shop, policy, 1.0))
    returns = np.array(
        [evaluate(never_end, shop.vector(400), 400, seed=s).returns for s in range(20)]
    )
    assert abs(returns.mean() - exact) < 4 * returns.std() / np.sqrt(returns.size)
    odd = evaluate(never_end, shop.vector(300), 1000, seed=5)  # quotas of 3 and 4
    assert abs(odd.mean - exact) < 4 * odd.returns.std() / np.sqrt(1000)


def test_the_same_seed_meets_the_same_customers_and_another_others():
    envs = make_shop(100)
    one, two, other = (evaluate(attentive_policy(), envs, 300, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.returns, two.returns)
    assert not np.array_equal(one.returns, other.returns)


def test_policies_meet_the_same_customers_so_that_luck_cancels():
    envs = make_shop(500)
    one = evaluate(fixed_policy([1, 4, 7, 10]), envs, 2000, seed=3)
    two = evaluate(fixed_policy([1, 7, 4, 10]), envs, 2000, seed=3)
    luck = evaluate(fixed_policy([1, 7, 4, 10]), envs, 2000, seed=4)
    assert np.corrcoef(one.returns, two.returns)[0, 1] > 0.15
    assert abs(np.corrcoef(one.returns, luck.returns)[0, 1]) < 0.1
    width = np.ptp(paired_difference(one, two)[1])
    assert width < 0.95 * np.ptp(paired_difference(one, luck)[1])


def test_session_i_is_the_same_customer_whatever_came_before():
    """Two policies whose sessions differ in length still meet the same first observations."""
    firsts = []
    for policy in (fixed_policy([2]), fixed_policy([1, 4])):
        seen = {}

        def watch(observations, policy=policy, seen=seen):
            for lane in np.flatnonzero(observations[:, -1] == 0):
                seen.setdefault(lane, []).append(observations[lane].copy())
            return policy(observations)

        evaluate(watch, make_shop(50), 200, seed=9)
        firsts.append(seen)
    for lane in range(50):
        for one, two in zip(firsts[0][lane][:4], firsts[1][lane][:4], strict=True):
            np.testing.assert_array_equal(one, two)


def test_without_a_seed_it_takes_the_one_that_the_shop_was_made_with():
    expected = evaluate(attentive_policy(), make_shop(50), 100, seed=7).returns
    envs = make_shop(50, seed=7)
    np.testing.assert_array_equal(evaluate(attentive_policy(), envs, 100).returns, expected)
    evaluate(attentive_policy(), envs, 100, seed=8)
    np.testing.assert_array_equal(evaluate(attentive_policy(), envs, 100).returns, expected)


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_numpys_whole_numbers_are_seeds_too(kind):
    plain = evaluate(attentive_policy(), make_shop(50), 100, seed=7).returns
    given = evaluate(attentive_policy(), make_shop(50), 100, seed=kind(7)).returns
    made = evaluate(attentive_policy(), make_shop(50, seed=kind(7)), 100).returns
    np.testing.assert_array_equal(given, plain)
    np.testing.assert_array_equal(made, plain)


def test_single_environments_are_evaluated_too():
    single = evaluate(attentive_policy(), ShopEnv(), 20, seed=3)
    vector = evaluate(attentive_policy(), make_shop(1), 20, seed=3)
    np.testing.assert_array_equal(single.returns, vector.returns)
    pole = evaluate(random_policy(2), gym.make("CartPole-v1"), 100, seed=0)
    assert 15 < pole.mean < 30
    np.testing.assert_array_equal(pole.returns, pole.lengths)


@pytest.mark.parametrize("episodes", [0, -1])
def test_no_episodes_are_refused(episodes):
    with pytest.raises(ValueError, match=f"episodes={episodes}"):
        evaluate(never_end, make_shop(2), episodes)


@pytest.mark.parametrize(
    "answer", [np.zeros(3, int), np.zeros(4), np.zeros((4, 1), int), 0, np.full(4, True)]
)
def test_a_policy_that_answers_something_else_is_refused(answer):
    with pytest.raises(ValueError, match=r"policy: \(4,\) integers expected"):
        evaluate(lambda observations: answer, make_shop(4), 10)


def test_an_item_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"actions\[0\]=12"):
        evaluate(lambda observations: np.full(4, 12), make_shop(4), 10)


def test_the_interval_is_students():
    """The expansion in use is right to 0.008 from five values on, to 0.0003 from ten on."""
    rng = np.random.default_rng(0)
    for count in [*range(5, 60), 100, 150, 200]:
        values = rng.normal(3, 2, count)
        low, high = confidence_interval(values)
        error = values.std(ddof=1) / np.sqrt(count)
        assert (low + high) / 2 == pytest.approx(values.mean())
        allowed = 0.008 if count < 10 else 0.0003
        assert abs((high - low) / 2 / error - stats.t.ppf(0.975, count - 1)) < allowed


@pytest.mark.parametrize("count", [5, 10, 40])
def test_the_interval_holds_the_mean_95_times_in_100(count):
    samples = np.random.default_rng(count).normal(1.0, 3.0, (4000, count))
    bounds = np.array([confidence_interval(sample) for sample in samples])
    inside = int(((bounds[:, 0] < 1) & (bounds[:, 1] > 1)).sum())
    assert stats.binomtest(inside, 4000, 0.95).pvalue > 1e-3


@pytest.mark.parametrize("values", [[], [1.0] * 4, np.ones((5, 5)), 3.0])
def test_an_interval_of_too_few_values_is_refused(values):
    with pytest.raises(ValueError, match="at least 5"):
        confidence_interval(values)


def test_the_paired_difference_is_that_of_the_sessions():
    rng = np.random.default_rng(1)
    ours, theirs = (Score(rng.normal(size=50), np.ones(50)) for _ in range(2))
    lead, (low, high) = paired_difference(ours, theirs)
    test = stats.ttest_rel(ours.returns, theirs.returns).confidence_interval()
    assert lead == pytest.approx(ours.mean - theirs.mean)
    np.testing.assert_allclose([low, high], [test.low, test.high], atol=1e-4)
    with pytest.raises(ValueError, match="50 and 49"):
        paired_difference(ours, Score(np.ones(49), np.ones(49)))


def test_the_interquartile_mean_is_scipys_trimmed_mean():
    rng = np.random.default_rng(2)
    for count in range(1, 60):
        values = rng.standard_cauchy(count)
        assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))
    assert interquartile_mean(np.array([[1.0, 2.0], [3.0, 1e9]])) == 2.5
    with pytest.raises(ValueError, match="at least one"):
        interquartile_mean(np.array([]))


def test_a_score_prints_its_mean_and_interval():
    score = Score(np.arange(100.0), np.ones(100))
    assert str(score) == "49.50 [43.74, 55.26]"
