"""The stored figures of `make verify`: they are what was promised, and parts come out again."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from test_learning import load_study

from dqnrec_lite import evaluate, make_shop
from dqnrec_lite.baselines import attentive_policy, fixed_policy, fixed_rules, most_popular_item
from dqnrec_lite.evaluation import confidence_interval
from dqnrec_lite.oracle import oracle_policy

PATH = Path(__file__).parent / "verify" / "results.json"
UNTRAINED = ("popular", "best fixed rule", "attentive rule", "oracle")
POLICIES = {*UNTRAINED, "random", "myopic DQN", "LinUCB", "DQN"}


@pytest.fixture(scope="module")
def stored():
    return json.loads(PATH.read_text())


@pytest.fixture(scope="module")
def study():
    return load_study()


@pytest.mark.parametrize("name", ["shop", "pocket"])
def test_each_study_has_at_least_ten_seeds_none_of_them_used_for_tuning(stored, study, name):
    seeds = [row["seed"] for row in stored[name]]
    assert seeds == list(study.SEEDS)
    assert len(set(seeds)) >= 10
    assert min(seeds) >= 1000


def test_the_settings_are_those_that_the_study_would_use_today(stored, study):
    today = {
        "shop": asdict(study.shop_config(0))
        | {"total_steps": study.SHOP_STEPS, "num_envs": study.SHOP_LANES},
        "pocket": asdict(study.pocket_config(0))
        | {"total_steps": study.POCKET_STEPS, "num_envs": study.POCKET_LANES},
        "customers": study.CUSTOMERS,
        "customer seed": study.CUSTOMER_SEED,
    }
    assert stored["settings"] == json.loads(json.dumps(today))


def test_pocketshop_is_learnt_for_every_seed_and_in_time(stored):
    for row in stored["pocket"]:
        assert 0.99 <= row["share of optimum"] <= 1 + 1e-6, row
        assert row["largest error over range"] <= 0.05, row
        assert row["seconds"] <= 30, row


def test_the_dqn_beats_every_baseline_with_an_interval_clear_of_0_and_in_time(stored):
    assert set(stored["policies"]) == POLICIES
    ours = np.array([row["DQN"] for row in stored["shop"]])
    for name in POLICIES - {"DQN", "oracle"}:
        lead = ours - np.array([row[name] for row in stored["shop"]])
        assert confidence_interval(lead)[0] > 0, f"no clear lead over {name}"
    assert max(row["seconds"] for row in stored["shop"]) <= 60
    assert all(row["oracle"] > row["DQN"] for row in stored["shop"])


def test_the_summaries_follow_from_the_rows(stored):
    column = {name: np.array([row[name] for row in stored["shop"]]) for name in POLICIES}
    for name, means in column.items():
        assert stored["policies"][name]["mean"] == pytest.approx(means.mean())
        assert stored["policies"][name]["ci"] == pytest.approx(confidence_interval(means))
    for name in POLICIES - {"DQN"}:
        lead = column["DQN"] - column[name]
        assert stored["lead of DQN"][name]["mean"] == pytest.approx(lead.mean())
        assert stored["lead of DQN"][name]["ci"] == pytest.approx(confidence_interval(lead))


@pytest.mark.parametrize("name", UNTRAINED)
def test_what_needs_no_training_comes_out_again(stored, study, name):
    for row in stored["shop"]:
        assert play_again(stored, study, name, row["seed"]) == pytest.approx(row[name], abs=1e-6)


def play_again(stored, study, name: str, seed: int) -> float:
    customers = make_shop(1000, seed + study.CUSTOMER_SEED - study.SEEDS[0])
    policy = {
        "popular": lambda: fixed_policy([most_popular_item(make_shop(1000))]),
        "best fixed rule": lambda: fixed_policy(stored["fixed rule"]),
        "attentive rule": attentive_policy,
        "oracle": lambda: oracle_policy(customers, study.ORACLE_ITEMS),
    }[name]()
    return evaluate(policy, customers, study.CUSTOMERS).mean


def test_the_oracles_exact_value_comes_out_again(stored, study):
    assert stored["oracle, exact"] == pytest.approx(study.ORACLE_VALUE, abs=1e-6)
    assert stored["policies"]["oracle"]["mean"] == pytest.approx(study.ORACLE_VALUE, rel=0.05)


def test_the_stored_fixed_rule_is_one_of_the_family(stored):
    assert stored["fixed rule"] in list(fixed_rules())
