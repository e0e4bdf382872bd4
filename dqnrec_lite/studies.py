"""What the long studies run: `experiments` runs them over ten seeds and stores what comes out.

Training seeds 1000 to 1009, customers of seeds 2000 to 2009, the same 4,000 for every policy of one
training seed. So an interval over the ten covers the luck of training and that of the customers.
Settings, rules and baselines were chosen on seeds 0 to 99.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from dqnrec_lite import baselines
from dqnrec_lite.config import DQNConfig
from dqnrec_lite.curve import LearningCurve
from dqnrec_lite.dqn import DQN
from dqnrec_lite.encoding import BUY
from dqnrec_lite.envs import shop
from dqnrec_lite.envs.oracle import oracle_policy, solve_oracle
from dqnrec_lite.envs.pocket import PocketShop
from dqnrec_lite.envs.tabular import policy_value, value_iteration
from dqnrec_lite.evaluation import Policy
from dqnrec_lite.logs.records import SessionLog, record_sessions
from dqnrec_lite.standard import (
    LOSS_DQNS,
    STANDARD_DQNS,
    STANDARD_METHODS,
    loss_settings,
    run_loss,
    run_task,
    standard_config,
    standard_settings,
)

SEEDS = range(1000, 1010)
# The settings of CartPole were changed after seeds 1000 to 1006, then 1100 to 1109, then 1200 to
# 1205 had been seen: fresh ones.
FRESH_SEEDS = range(1300, 1310)
CUSTOMERS, CUSTOMER_SEED = 4000, 2000
SHOP_STEPS, SHOP_LANES = 2_000_000, 256
LINUCB_STEPS, TABULAR_STEPS, LOG_SESSIONS = 200_000, 1_000_000, 20_000
EPSILON_STEPS = 500_000
POCKET_STEPS, POCKET_LANES = 4_000_000, 1024

UNTRAINED = ("popular", "random", "best fixed rule", "attentive rule", "item-to-item", "oracle")
# Methods of the Shop that are DQNs: changes of `shop_config`, and transitions.
SHOP_DQNS: dict[str, tuple[dict[str, Any], int]] = {
    "myopic DQN": ({"discount": 0.0}, SHOP_STEPS // 2),
    "DQN": ({}, SHOP_STEPS),
}
EPSILON_DQNS: dict[str, tuple[dict[str, Any], int]] = {
    "constant 0.05": ({"epsilon_start": 0.05, "epsilon_end": 0.05}, EPSILON_STEPS),
    "constant 0.3": ({"epsilon_start": 0.3, "epsilon_end": 0.3}, EPSILON_STEPS),
    "linear over 10 %": ({"epsilon_fraction": 0.1}, EPSILON_STEPS),
    "linear over 50 %": ({"epsilon_fraction": 0.5}, EPSILON_STEPS),
}
STUDIES = {
    "shop": (*UNTRAINED[:-1], "LinUCB", "tabular", *SHOP_DQNS, "oracle"),
    "epsilon": tuple(EPSILON_DQNS),
    "pocket": ("DQN",),
    "loss": tuple(LOSS_DQNS),
    **STANDARD_METHODS,
}


def shop_config(seed: int, **changes: Any) -> DQNConfig:
    """Settings of the Shop's DQN: the quickstart's, trained twice as long."""
    config = DQNConfig(seed=seed, updates_per_transition=0.02, buffer_size=500_000)
    return replace(config, **changes)


def pocket_config(seed: int) -> DQNConfig:
    """Settings that learn PocketShop's values as well as its policy: much data, much exploring."""
    return DQNConfig(
        seed=seed,
        discount=0.95,
        hidden_sizes=(64, 64),
        batch_size=512,
        buffer_size=3_000_000,
        updates_per_transition=0.0075,
        target_sync_every=150,
        epsilon_end=0.8,
        learning_rate_end=0.0,
    )


def seeds_of(study: str) -> range:
    """The training seeds on which a study reports."""
    return FRESH_SEEDS if study == "cartpole" else SEEDS


def settings(study: str, method: str, seed: int) -> dict[str, Any]:
    """What a row is made with, ready for JSON: today's `config` of it."""
    if study == "pocket":
        made = asdict(pocket_config(seed)) | {"total_steps": POCKET_STEPS, "num_envs": POCKET_LANES}
    elif study == "loss":
        made = loss_settings(method, seed)
    elif study in STANDARD_METHODS:
        made = standard_settings(study, method, seed)
    else:
        made = {"customers": CUSTOMERS, "customer_seed": seed - SEEDS[0] + CUSTOMER_SEED}
        if method in (dqns := SHOP_DQNS | EPSILON_DQNS):
            changes, steps = dqns[method]
            made |= asdict(shop_config(seed, **changes))
            made |= {"total_steps": steps, "num_envs": SHOP_LANES}
        elif method in ("LinUCB", "tabular"):
            steps = LINUCB_STEPS if method == "LinUCB" else TABULAR_STEPS
            made |= {"total_steps": steps, "num_envs": SHOP_LANES}
        elif method == "item-to-item":
            made |= {"log_sessions": LOG_SESSIONS}
    return json.loads(json.dumps(made))


class Outcome(NamedTuple):
    """What one run gives."""

    seconds: float  # of training
    figures: dict[str, Any]
    curve: LearningCurve | None


def run(study: str, method: str, seed: int) -> Outcome:
    """Train one method with one seed, and measure it."""
    start = time.perf_counter()
    if study == "pocket":
        return _run_pocket(seed)
    if study == "loss":
        return Outcome(*run_loss(method, seed))
    if study in STANDARD_METHODS:
        return Outcome(*run_task(study, standard_config(study, seed, **STANDARD_DQNS[method])))
    customers = shop.make_shop(1000, seed - SEEDS[0] + CUSTOMER_SEED)
    if method in (dqns := SHOP_DQNS | EPSILON_DQNS):
        changes, steps = dqns[method]
        envs = shop.make_shop(SHOP_LANES, seed)
        spaces = envs.single_observation_space, envs.single_action_space
        agent = DQN(*spaces, shop_config(seed, **changes))
        curve: LearningCurve | None = agent.learn(envs, steps)
        policy: Policy = agent.predict
    else:
        policy, curve = _other_policy(method, seed, customers), None
    seconds = time.perf_counter() - start
    figures = session_figures(record_sessions(policy, customers, CUSTOMERS))
    if method == "best fixed rule":
        figures["items"] = _fixed_rule()
    if method == "oracle":
        figures["exact return"] = _oracle()[1]
    return Outcome(seconds, figures, curve)


_oracle = cache(solve_oracle)
_fixed_rule = cache(baselines.best_fixed_rule)


def _other_policy(method: str, seed: int, customers: shop.ShopVectorEnv) -> Policy:
    envs = shop.make_shop(SHOP_LANES, seed)
    if method == "popular":
        return baselines.fixed_policy([baselines.most_popular_item(shop.make_shop(1000))])
    if method == "random":
        return baselines.random_policy(shop.NUM_ITEMS, seed)
    if method == "best fixed rule":
        return baselines.fixed_policy(_fixed_rule())
    if method == "attentive rule":
        return baselines.attentive_policy()
    if method == "item-to-item":
        return baselines.item_to_item_policy(envs, LOG_SESSIONS, seed)
    if method == "LinUCB":
        return baselines.train_linucb(envs, LINUCB_STEPS, seed=seed)
    if method == "tabular":
        return baselines.train_tabular(envs, TABULAR_STEPS, seed=seed)
    return oracle_policy(customers, _oracle()[0])


def session_figures(log: SessionLog) -> dict[str, Any]:
    """What sessions show beyond the mean return; euro, pages, shares of 1.

    `coverage` is the share of the catalogue that stands on at least 1 % of all pages; `diversity`
    the chance that two pages of one session show different categories; `worst decile` the mean
    return of the tenth of sessions that brought least; `worst type` the lowest mean return of the
    24 types of customer.
    """
    sessions = log.session[-1] + 1
    first, last = log.page == 0, log.terminated | log.truncated
    returns = np.bincount(log.session, log.reward)
    lengths = np.bincount(log.session)
    kind = log.customer_type[first]
    favourite = shop.TYPES[kind, 0]
    shown = np.bincount(log.item, minlength=shop.NUM_ITEMS) / len(log.item)
    categories = np.zeros((sessions, len(shop.CATEGORIES)))
    np.add.at(categories, (log.session, log.item // len(shop.KINDS)), 1)
    long = lengths > 1
    pairs = lengths[long] * (lengths[long] - 1)
    same = (categories * (categories - 1)).sum(axis=1)[long] / pairs
    types = [returns[kind == k].mean() for k in range(shop.NUM_TYPES) if (kind == k).any()]
    figures = {
        "return": returns.mean(),
        **{
            f"return, {name}": returns[favourite == i].mean()
            for i, name in enumerate(shop.CATEGORIES)
        },
        "purchases": (log.event == BUY).sum() / sessions,
        "length": lengths.mean(),
        "final satisfaction": log.satisfaction_after[last].mean(),
        "coverage": (shown >= 0.01).mean(),
        "diversity": 1.0 - same.mean(),
        "worst decile": np.sort(returns)[: sessions // 10].mean(),
        "worst type": min(types),
    }
    return {name: float(value) for name, value in figures.items()}


def _run_pocket(seed: int) -> Outcome:
    """How close the network's policy and values come to the exact ones."""
    pocket, config = PocketShop(), pocket_config(seed)
    best = value_iteration(pocket, config.discount)
    envs = pocket.vector(POCKET_LANES, seed)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    start = time.perf_counter()
    curve = agent.learn(envs, POCKET_STEPS)
    seconds = time.perf_counter() - start
    q = agent.q_values(pocket.mdp.observations)
    value = policy_value(pocket, q.argmax(axis=1), config.discount)
    v, seen = best.max(axis=1), pocket.mdp.reachable
    figures = {
        "share of optimum": float(pocket.mdp.start @ value / (pocket.mdp.start @ v)),
        "largest error over range": float(np.abs(q.max(axis=1) - v)[seen].max() / np.ptp(v[seen])),
    }
    return Outcome(seconds, figures, curve)
