"""The Shop: the DQN beside rules, baselines and the oracle, over ten seeds.

Training seeds 1000 to 1009, customers of seeds 2000 to 2009, the same 4,000 for every policy of one
training seed. So an interval over the ten covers the luck of training and that of the customers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from dqnrec_lite import baselines
from dqnrec_lite.config import DQNConfig
from dqnrec_lite.curve import LearningCurve
from dqnrec_lite.dqn import DQN
from dqnrec_lite.encoding import BUY
from dqnrec_lite.envs import shop
from dqnrec_lite.envs.oracle import oracle_policy, solve_oracle
from dqnrec_lite.evaluation import Policy
from dqnrec_lite.logs.records import SessionLog, record_sessions
from dqnrec_lite.studies.study import SEEDS, Outcome, Study, settings_of

CUSTOMERS = 4000
SHOP_STEPS, SHOP_LANES = 2_000_000, 256  # transitions; sessions side by side


def customer_seed(seed: int) -> int:
    """Seed of the customers on whom the policies of a training seed are judged."""
    return seed - SEEDS[0] + 2000


def shop_config(seed: int, **changes: Any) -> DQNConfig:
    """Settings of the Shop's DQN: the quickstart's, trained twice as long."""
    config = DQNConfig(
        seed=seed, updates_per_transition=0.02, buffer_size=500_000, target_sync_every=500
    )
    return replace(config, **changes)


@dataclass(frozen=True)
class ShopDQN:
    """A DQN for the Shop: changes of `shop_config`, and the length of its training."""

    changes: Mapping[str, Any]
    total_steps: int = SHOP_STEPS  # transitions

    def settings(self, seed: int) -> dict[str, Any]:
        """What a row says of it."""
        made = settings_of(shop_config(seed, **self.changes))
        return made | {"total_steps": self.total_steps, "num_envs": SHOP_LANES}

    def train(
        self, seed: int, customers: shop.ShopVectorEnv
    ) -> tuple[Policy, LearningCurve | None]:
        """Its greedy policy and how it was learnt; the customers are not looked at."""
        envs = shop.make_shop(SHOP_LANES, seed=seed)
        spaces = envs.single_observation_space, envs.single_action_space
        agent = DQN(*spaces, shop_config(seed, **self.changes))
        curve = agent.learn(envs, self.total_steps)
        return agent.predict, curve

    def figures(self) -> dict[str, Any]:
        """Nothing beyond what its sessions show."""
        return {}


@dataclass(frozen=True)
class Baseline:
    """A policy without a network.

    Args:
        policy: called with a training seed, the customers that come (only the oracle may look at
            them) and the settings by name; gives the policy.
        own_settings: what a row says of it.
        figures: what a row shows beyond its sessions.
    """

    policy: Callable[..., Policy]
    own_settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Callable[[], dict[str, Any]] = dict

    def settings(self, seed: int) -> dict[str, Any]:
        """What a row says of it."""
        return dict(self.own_settings)

    def train(
        self, seed: int, customers: shop.ShopVectorEnv
    ) -> tuple[Policy, LearningCurve | None]:
        """The policy; it has no learning curve."""
        return self.policy(seed, customers, **self.own_settings), None


oracle_items = cache(solve_oracle)
fixed_rule = cache(baselines.best_fixed_rule)


def _popular(seed: int, customers: shop.ShopVectorEnv) -> Policy:
    return baselines.fixed_policy([baselines.most_popular_item(shop.make_shop(1000))])


def _random(seed: int, customers: shop.ShopVectorEnv) -> Policy:
    return baselines.random_policy(shop.NUM_ITEMS, seed)


def _best_fixed_rule(seed: int, customers: shop.ShopVectorEnv) -> Policy:
    return baselines.fixed_policy(fixed_rule())


def _attentive_rule(seed: int, customers: shop.ShopVectorEnv) -> Policy:
    return baselines.attentive_policy()


def _item_to_item(seed: int, customers: shop.ShopVectorEnv, log_sessions: int) -> Policy:
    return baselines.item_to_item_policy(shop.make_shop(SHOP_LANES, seed=seed), log_sessions, seed)


def _linucb(seed: int, customers: shop.ShopVectorEnv, total_steps: int, num_envs: int) -> Policy:
    return baselines.train_linucb(shop.make_shop(num_envs, seed=seed), total_steps, seed=seed)


def _tabular(seed: int, customers: shop.ShopVectorEnv, total_steps: int, num_envs: int) -> Policy:
    return baselines.train_tabular(shop.make_shop(num_envs, seed=seed), total_steps, seed=seed)


def _oracle(seed: int, customers: shop.ShopVectorEnv) -> Policy:
    return oracle_policy(customers, oracle_items()[0])


METHODS: dict[str, Baseline | ShopDQN] = {
    "popular": Baseline(_popular),
    "random": Baseline(_random),
    "best fixed rule": Baseline(_best_fixed_rule, figures=lambda: {"items": fixed_rule()}),
    "attentive rule": Baseline(_attentive_rule),
    "item-to-item": Baseline(_item_to_item, {"log_sessions": 20_000}),
    "LinUCB": Baseline(_linucb, {"total_steps": 200_000, "num_envs": SHOP_LANES}),
    "tabular": Baseline(_tabular, {"total_steps": 1_000_000, "num_envs": SHOP_LANES}),
    "myopic DQN": ShopDQN({"discount": 0.0}, SHOP_STEPS // 2),
    "DQN": ShopDQN({}),
    "oracle": Baseline(_oracle, figures=lambda: {"exact return": oracle_items()[1]}),
}


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


@dataclass(frozen=True, kw_only=True)
class ShopStudy(Study):
    """Policies for the Shop, all of one training seed judged on the same customers."""

    methods: Mapping[str, Baseline | ShopDQN]
    customers: int = CUSTOMERS

    def settings(self, method: str, seed: int) -> dict[str, Any]:
        """The customers, and what the method is made with."""
        judged = {"customers": self.customers, "customer_seed": customer_seed(seed)}
        return judged | self.methods[method].settings(seed)

    def run(self, method: str, seed: int) -> Outcome:
        """Train, then let the customers come."""
        contestant, customers = self.methods[method], shop.make_shop(1000, seed=customer_seed(seed))
        start = time.perf_counter()
        policy, curve = contestant.train(seed, customers)
        seconds = time.perf_counter() - start
        figures = session_figures(record_sessions(policy, customers, self.customers))
        return Outcome(seconds, figures | contestant.figures(), curve)


STUDY = ShopStudy(
    name="shop",
    methods=METHODS,
    exact=frozenset(METHODS) - {"LinUCB", "tabular", "myopic DQN", "DQN"},
)
