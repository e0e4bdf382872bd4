"""Evaluation: whole sessions, the same customers for everybody, and intervals that hold."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from scipy import stats
from test_sessions import Counting

from dqnrec_lite import PocketShop, evaluate, make_shop, policy_value
from dqnrec_lite.baselines import attentive_policy, fixed_policy, random_policy
from dqnrec_lite.envs.shop import ShopEnv
from dqnrec_lite.evaluation import (
    Score,
    bootstrap_interval,
    confidence_interval,
    interquartile_mean,
    paired_difference,
    play,
    probability_of_improvement,
)


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


def test_without_a_seed_a_single_environment_plays_the_one_it_was_made_with_too():
    makers = [
        lambda seed: ShopEnv(seed=seed),
        lambda seed: PocketShop(seed=seed),
        lambda seed: gym.make("dqnrec_lite/Shop-v0", seed=seed),
    ]
    for make in makers:
        policy = random_policy(6)
        first = [evaluate(random_policy(6), make(seed), 30).returns for seed in (0, 5)]
        assert not np.array_equal(*first)
        given = evaluate(policy, make(0), 30, seed=5).returns
        np.testing.assert_array_equal(given, first[1])


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
    with pytest.raises(ValueError, match=r"policy\[0\]=12"):
        evaluate(lambda observations: np.full(4, 12), make_shop(4), 10)


def test_the_interval_is_students():
    rng = np.random.default_rng(0)
    for count in [*range(5, 60), 100, 150, 200]:
        values = rng.normal(3, 2, count)
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        np.testing.assert_allclose(confidence_interval(values), expected)


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


def test_a_score_of_few_sessions_prints_and_says_why_it_has_no_interval():
    score = evaluate(never_end, make_shop(3), episodes=3)
    assert str(score) == f"{score.mean:.2f} [too few sessions for an interval: 3]"
    assert str(Score([1.0, 2.0], [1, 1])).startswith("1.50 [")


def test_scores_can_be_compared_and_hashed():
    ones = np.ones(9)
    score, other = Score(ones, ones), Score(ones, ones)
    assert score == score
    assert score != other
    assert len({score, other}) == 2


def test_what_play_refuses_it_refuses_before_the_first_page():
    envs = make_shop(2)
    arguments = [(None, envs, 5, 0), (never_end, None, 5, 0), (never_end, envs, 0, 0)]
    for refused in [*arguments, (never_end, envs, 5, -1)]:
        with pytest.raises((TypeError, ValueError)):
            play(*refused)


def test_a_played_page_tells_who_saw_what_and_what_came_of_it():
    """The pages of every session, put together, are its observations in a row."""
    envs = make_shop(7)
    sessions = {}
    for page in play(attentive_policy(), envs, 20, seed=3):
        for lane, session in zip(page.lanes, page.session, strict=True):
            row = page.observation[lane], page.action[lane], page.step.next_observation[lane]
            sessions.setdefault(session, []).append((*row, page.step.reward[lane]))
    assert sorted(sessions) == list(range(20))
    score = evaluate(attentive_policy(), envs, 20, seed=3)
    for session, rows in sessions.items():
        np.testing.assert_allclose(
            [row[0][-1] * 40 for row in rows], np.arange(len(rows)), atol=1e-4
        )
        for before, after in itertools.pairwise(rows):
            np.testing.assert_array_equal(before[2], after[0])
        np.testing.assert_array_equal(
            [row[1] for row in rows], attentive_policy()(np.array([row[0] for row in rows]))
        )
        assert score.returns[session] == pytest.approx(sum(row[3] for row in rows))
        assert score.lengths[session] == len(rows)


def test_the_bootstrap_is_that_of_scipy_by_hand_on_each_stratum():
    rng = np.random.default_rng(5)
    strata = [rng.normal(size=10), rng.normal(size=12) + 5]
    drawn = [s[rng.integers(0, len(s), (20_000, len(s)))] for s in strata]
    tail = stats.norm.cdf(-stats.t.ppf(0.975, 9) * np.sqrt(10 / 9))
    for values, samples in [(strata, drawn), (strata[0], drawn[:1])]:
        pooled = np.concatenate(samples, axis=1)
        for statistic in (interquartile_mean, np.mean):
            expected = np.quantile(statistic(pooled, axis=1), [tail, 1 - tail])
            found = bootstrap_interval(values, statistic, resamples=20_000, seed=1)
            np.testing.assert_allclose(found, expected, atol=0.06)
    assert bootstrap_interval(strata) == bootstrap_interval(strata)
    assert bootstrap_interval(strata) != bootstrap_interval(strata, seed=1)
    assert bootstrap_interval(strata[0]) == bootstrap_interval(strata[0].tolist())


@pytest.mark.parametrize(
    ("values", "named"),
    [([], "values"), ([1.0] * 4, "values"), (np.ones((5, 5)), "values"), (1.0, "values"),
     ([np.ones(5), np.ones(4)], r"values\[1\]"), ([np.ones((5, 2))], r"values\[0\]")],
)  # fmt: skip
def test_a_bootstrap_of_too_few_values_is_refused(values, named):
    with pytest.raises(ValueError, match=f"^{named}: at least 5"):
        bootstrap_interval(values)


def test_the_probability_of_improvement_counts_pairs_and_half_of_the_ties():
    rng = np.random.default_rng(6)
    for _ in range(20):
        ours, theirs = rng.integers(0, 5, 10) + 1, rng.integers(0, 5, 7)
        wins = (ours[:, None] > theirs).mean() + 0.5 * (ours[:, None] == theirs).mean()
        assert probability_of_improvement(ours, theirs) == pytest.approx(wins)
    assert probability_of_improvement(np.ones(3), np.ones(4)) == 0.5
    assert probability_of_improvement(np.array([2.0]), np.array([1.0])) == 1.0
    with pytest.raises(ValueError, match="theirs"):
        probability_of_improvement(np.ones(3), np.array([]))
    with pytest.raises(ValueError, match="ours"):
        probability_of_improvement(np.ones((3, 2)), np.ones(3))


def test_the_bootstrap_of_five_values_is_that_of_all_3125_resamples():
    """The exact distribution, at the tails that Student's t with 4 degrees of freedom asks for."""
    values = np.array([0.0, 1.0, 2.5, 4.5, 8.0])
    means = np.array(list(itertools.product(values, repeat=5))).mean(axis=1)
    tail = stats.norm.cdf(stats.t.ppf(0.025, 4) * np.sqrt(5 / 4))
    expected = np.quantile(means, [tail, 1 - tail])
    found = bootstrap_interval(values, np.mean, resamples=200_000)
    np.testing.assert_allclose(found, expected, atol=0.11)  # the means lie 0.1 apart
    # A second task of many values leaves the widening to the smaller one.
    many = np.tile([-1.0, 1.0], 50)

    def sum_of_means(pooled, axis):
        assert axis == -1
        return pooled[..., :5].mean(axis=-1) + 0.0 * pooled[..., 5:].mean(axis=-1)

    found = bootstrap_interval([values, many], sum_of_means, resamples=20_000)
    np.testing.assert_allclose(found, expected, atol=0.31)


def test_the_interquartile_mean_goes_along_an_axis():
    values = np.random.default_rng(3).normal(size=(8, 12))
    for axis in (0, 1, -1):
        rows = np.moveaxis(values, axis, -1)
        expected = np.sort(rows)[:, rows.shape[1] // 4 : -rows.shape[1] // 4].mean(axis=1)
        np.testing.assert_allclose(interquartile_mean(values, axis), expected)


# --- The reported intervals hold: coverage by simulation ------------------------------------------


@pytest.fixture(scope="module")
def returns():
    """What 40,000 customers brought, under two policies: skewed, and many of them nothing."""
    envs = make_shop(2000)
    policies = fixed_policy([1, 4, 7, 10]), fixed_policy([1, 7, 4, 10])
    found = [evaluate(policy, envs, 40_000, seed=77).returns for policy in policies]
    assert stats.skew(found[0]) > 1
    return found


def coverage(interval, draw, truth: float, trials: int) -> float:
    rng = np.random.default_rng(0)
    bounds = np.array([interval(draw(rng)) for _ in range(trials)])
    return float(((bounds[:, 0] < truth) & (truth < bounds[:, 1])).mean())


@pytest.mark.parametrize("customers", [1000, 4000])
def test_the_interval_of_a_mean_return_covers_it(returns, customers):
    values = returns[0]
    share = coverage(confidence_interval, lambda rng: rng.choice(values, customers),
                     values.mean(), 2000)  # fmt: skip
    assert 0.92 <= share <= 0.98, share


def test_the_interval_of_a_paired_difference_covers_it(returns):
    lead = returns[0] - returns[1]

    def interval(rows):
        ours, theirs = (Score(r[rows], np.ones(len(rows))) for r in returns)
        return paired_difference(ours, theirs)[1]

    share = coverage(interval, lambda rng: rng.integers(0, len(lead), 1000), lead.mean(), 2000)
    assert 0.92 <= share <= 0.98, share


def test_the_interval_over_ten_seeds_covers_the_mean():
    share = coverage(confidence_interval, lambda rng: rng.normal(9, 0.2, 10), 9.0, 4000)
    assert 0.92 <= share <= 0.98, share


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng: rng.normal(size=10), 0.0),
        (lambda rng: rng.exponential(size=10), 0.739),  # of ten values, cut at two each side
        (lambda rng: [rng.normal(size=10) + shift for shift in (-5, 0, 5)], 0.0),
    ],
    ids=["normal", "skewed", "three tasks"],
)
def test_the_bootstrap_interval_over_ten_seeds_covers_the_interquartile_mean(draw, truth):
    share = coverage(lambda v: bootstrap_interval(v, resamples=1000), draw, truth, 1500)
    assert 0.92 <= share <= 0.98, share
