"""The oracle is a ceiling: its computed value is what it earns, and nobody earns more."""

import numpy as np
import pytest

from dqnrec_lite import evaluate, make_shop
from dqnrec_lite.baselines import attentive_policy, fixed_policy, random_policy
from dqnrec_lite.envs.oracle import first_page_values, oracle_policy, solve_oracle
from dqnrec_lite.envs.shop import NUM_ITEMS
from dqnrec_lite.evaluation import paired_difference
from dqnrec_lite.rewards import RewardWeights


@pytest.fixture(scope="module")
def solved():
    return solve_oracle()


def test_the_oracle_earns_what_its_equations_say(solved):
    items, value = solved
    envs = make_shop(1000)
    score = evaluate(oracle_policy(envs, items), envs, 8000, seed=11)
    assert abs(score.mean - value) < 4 * score.returns.std() / np.sqrt(8000)


def test_with_other_rules_it_still_does():
    """Short sessions that pay for views too."""
    weights = RewardWeights(view=0.3, cart=0.1, margin=0.5)
    items, value = solve_oracle(page_limit=6, weights=weights)
    envs = make_shop(1000, weights=weights, page_limit=6)
    score = evaluate(oracle_policy(envs, items), envs, 10_000, seed=12)
    assert abs(score.mean - value) < 4 * score.returns.std() / 100


def test_no_other_policy_earns_as_much(solved):
    envs = make_shop(1000)
    oracle = evaluate(oracle_policy(envs, solved[0]), envs, 3000, seed=13)
    for policy in (
        random_policy(NUM_ITEMS),
        attentive_policy(),
        fixed_policy([1, 4, 7, 10]),  # the best of the fixed rules
        oracle_policy(envs, solve_oracle(discount=0.0)[0]),
    ):
        other = evaluate(policy, envs, 3000, seed=13)
        assert paired_difference(oracle, other)[1][0] > 0


def test_the_plan_covers_every_hidden_state_of_every_page(solved):
    items, value = solved
    assert items.shape == (40, 24, 5, 5, 16, 7)
    assert items.min() >= 0
    assert items.max() < NUM_ITEMS
    assert solve_oracle(page_limit=39)[1] < value


def test_the_first_page_adds_up(solved):
    """Chosen by who the customer is, it earns what the oracle earns; shares are those met."""
    shares, values = first_page_values()
    assert shares.sum() == pytest.approx(1.0)
    assert (shares.sum(axis=0) * values.max(axis=-1)).sum() == pytest.approx(solved[1])
    envs = make_shop(20_000, seed=14)
    looks = envs.reset()[0]
    entries = np.unique(looks, axis=0, return_counts=True)[1] / 20_000
    assert np.sort(entries) == pytest.approx(np.sort(shares.sum(axis=(1, 2))), abs=0.015)
    types = np.bincount(envs.customer_type, minlength=24) / 20_000
    assert types == pytest.approx(shares.sum(axis=(0, 2)), abs=0.015)


def test_it_refuses_customers_whose_minds_it_cannot_read(solved):
    envs, others = make_shop(100, seed=1), make_shop(100, seed=2)
    policy = oracle_policy(envs, solved[0])
    with pytest.raises(ValueError, match="observations: those of the Shop that oracle_policy"):
        evaluate(policy, others, 100)
    with pytest.raises(ValueError, match="observations"):
        policy(np.zeros((50, 45)))
    evaluate(policy, envs, 100)


def test_a_plan_for_another_page_limit_is_refused(solved):
    """A plan for 40 pages waits on page 20 for sales that a shop of 20 pages never makes."""
    with pytest.raises(ValueError, match=r"items: 20 pages expected, got 40: solve_oracle\(page_l"):
        oracle_policy(make_shop(10, page_limit=20), solved[0])


def test_on_one_page_the_oracle_shows_what_sells_best_at_once():
    """By the funnel alone: margin times the chance of a purchase."""
    from dqnrec_lite.envs import shop

    items, value = solve_oracle(page_limit=1)
    needed = np.arange(16)[:, None] >> np.arange(4) & 1  # (needs, category)
    earned = shop.FUNNEL[:, :, 0, :, :, 2] * shop.MARGIN  # (type, needed, level, item)
    by_item = np.stack(  # (item, type, needs, level)
        [earned[..., i][:, needed[:, i // 3]] for i in range(NUM_ITEMS)]
    )
    chosen = np.take_along_axis(by_item, items[0, :, 4, 4][None].astype(int), axis=0)[0]
    np.testing.assert_allclose(chosen, by_item.max(axis=0))
    assert 0 < value < 2.5
