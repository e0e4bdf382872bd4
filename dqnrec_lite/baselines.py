"""What a DQN must beat on the Shop. Every policy is a function (n, observation) -> (n,) items.

`train_linucb` and `train_tabular`, the two that learn online without a network, are in `learners`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, permutations, product

import numpy as np

from dqnrec_lite import shop
from dqnrec_lite.agent import DQN
from dqnrec_lite.checks import (
    MANY,
    check_array,
    check_integers,
    check_kind,
    check_number,
    check_whole,
)
from dqnrec_lite.config import DQNConfig
from dqnrec_lite.encoding import BUY, VIEW, split_vectors
from dqnrec_lite.evaluation import Policy, evaluate
from dqnrec_lite.learners import passed_over_premium, rested_interest, train_linucb, train_tabular
from dqnrec_lite.logs import record_sessions
from dqnrec_lite.progress import progress_bar

__all__ = [
    "attentive_policy",
    "best_fixed_rule",
    "fixed_policy",
    "fixed_rules",
    "item_to_item_policy",
    "most_popular_item",
    "random_policy",
    "train_linucb",
    "train_myopic",
    "train_tabular",
]

_CATEGORIES, _KINDS = len(shop.CATEGORIES), len(shop.KINDS)


def random_policy(num_actions: int, seed: int = 0) -> Policy:
    """Every item with the same chance."""
    check_whole("num_actions", num_actions, 1, MANY)
    check_whole("seed", seed, 0)
    rng = np.random.default_rng(seed)

    def policy(observations: np.ndarray) -> np.ndarray:
        count = len(check_array("observations", observations, ("n", "size")))
        return rng.integers(0, num_actions, count)

    return policy


def fixed_policy(items: list[int], page_limit: int = shop.PAGE_LIMIT) -> Policy:
    """The items in this order, over and over, whoever the customer is. One item: always that."""
    order = check_integers("items", items, ("n",), shop.NUM_ITEMS).copy()
    if not order.size:
        raise ValueError("items: at least one expected, got none")
    check_whole("page_limit", page_limit, 1, MANY)

    def policy(observations: np.ndarray) -> np.ndarray:
        observations = check_array("observations", observations, ("n", "size"))
        page = np.rint(observations[:, -1] * page_limit).astype(np.int64)
        return order[page % len(order)]

    return policy


def most_popular_item(envs: shop.ShopVectorEnv, pages: int = 100_000, seed: int = 0) -> int:
    """The item with the most purchases when all are shown equally often, as a best-seller list."""
    check_kind("envs", envs, shop.ShopVectorEnv)
    check_whole("pages", pages, 1, 10**9)
    check_whole("seed", seed, 0)
    rng = np.random.default_rng(seed)
    envs.reset(seed=seed)
    sold = np.zeros(shop.NUM_ITEMS, np.int64)
    for _ in range(-(-pages // envs.num_envs)):
        items = rng.integers(0, shop.NUM_ITEMS, envs.num_envs)
        info = envs.step(items)[-1]
        sold += np.bincount(items[info["event"] == BUY], minlength=shop.NUM_ITEMS)
    return int(sold.argmax())


def fixed_rules() -> Iterator[list[int]]:
    """Every cyclic order of one to four categories with one item of each: 768 rules."""
    for size in range(1, _CATEGORIES + 1):
        for chosen in combinations(range(_CATEGORIES), size):
            for rest in permutations(chosen[1:]):
                for kinds in product(range(_KINDS), repeat=size):
                    order = (chosen[0], *rest)
                    yield [c * _KINDS + k for c, k in zip(order, kinds, strict=True)]


def best_fixed_rule(seed: int = 0, customers: int = 300, finalists: int = 20) -> list[int]:
    """The best of `fixed_rules`: all meet the same customers, the best few ten times as many."""
    check_whole("finalists", finalists, 1, MANY)
    rules = list(fixed_rules())
    envs = shop.make_shop(customers, seed)
    means = [
        evaluate(fixed_policy(r), envs, customers).mean for r in progress_bar(rules, unit="rule")
    ]
    best = [rules[i] for i in np.argsort(means)[::-1][:finalists]]
    finals = [evaluate(fixed_policy(r), envs, 10 * customers, seed + 1).mean for r in best]
    return best[int(np.argmax(finals))]


def attentive_policy(patience: float = 1.0) -> Policy:
    """A rule that a thoughtful shopkeeper might write: follow the customer.

    Show the complement of what was bought on the last page; else the category with the most recent
    interest that did not stand on both last pages. Premium first; value once the customer has
    passed over more premium items than `patience` (decayed count) and bought none.
    """
    check_number("patience", patience)

    def policy(observations: np.ndarray) -> np.ndarray:
        seen = split_vectors(observations, _CATEGORIES, _KINDS)
        category = rested_interest(seen).argmax(axis=1)
        last = seen.last_shown[:, 0].argmax(axis=1)
        category = np.where(seen.last_event[:, BUY] > 0, shop.COMPLEMENT[last], category)
        return category * _KINDS + ~passed_over_premium(seen, patience)

    return policy


def item_to_item_policy(envs: shop.ShopVectorEnv, sessions: int = 20_000, seed: int = 0) -> Policy:
    """Customers who looked at this also bought that: item-to-item collaborative filtering.

    Linden, Smith & York (IEEE Internet Computing 7(1), 2003, doi:10.1109/MIC.2003.1167344). In a
    log of random pages, the similarity of category c to item j is the cosine between two vectors
    over sessions: c was viewed at least, j was bought. An item's score is the sum of its
    similarities to the categories that the customer looked at, weighted by the decayed counts,
    times its margin. What stood on both last pages rests. (Without margin bait is always shown, and
    without rest the same item: 1.7 and 2.7 euro a session instead of 7.5, on tuning seeds.)

    Args:
        envs: the Shop to log.
        sessions: length of the log.
        seed: of the log.
    """
    check_whole("sessions", sessions, 1, MANY)
    log = record_sessions(random_policy(shop.NUM_ITEMS, seed), envs, sessions, seed)
    looked = np.zeros((sessions, _CATEGORIES))
    bought = np.zeros((sessions, shop.NUM_ITEMS))
    opened, sold = log.event >= VIEW, log.event == BUY
    looked[log.session[opened], log.item[opened] // _KINDS] = 1.0
    bought[log.session[sold], log.item[sold]] = 1.0
    lengths = np.linalg.norm(looked, axis=0)[:, None] * np.linalg.norm(bought, axis=0)
    similarity = looked.T @ bought / np.maximum(lengths, 1.0)

    def policy(observations: np.ndarray) -> np.ndarray:
        seen = split_vectors(observations, _CATEGORIES, _KINDS)
        engagement = seen.by_category[:, :, VIEW:].sum(axis=2)
        score = (engagement @ similarity) * shop.MARGIN
        rests = np.repeat(seen.last_shown.min(axis=1) > 0, _KINDS, axis=1)
        return np.where(rests, -1.0, score).argmax(axis=1)

    return policy


def train_myopic(
    envs: shop.ShopVectorEnv, total_steps: int, config: DQNConfig | None = None
) -> DQN:
    """A DQN with discount 0: the same agent, asked only what this page will earn."""
    check_kind("envs", envs, shop.ShopVectorEnv)
    check_kind("config", config, DQNConfig, type(None))
    config = replace(config if config is not None else DQNConfig(), discount=0.0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    agent.learn(envs, total_steps)
    return agent
