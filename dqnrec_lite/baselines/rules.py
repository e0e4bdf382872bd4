"""Rules that a shopkeeper could write down.

Every policy is a function, (n, observation_size) float32 -> (n,) items.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations, product

import numpy as np

from dqnrec_lite._checks import (
    MANY,
    check_array,
    check_integers,
    check_kind,
    check_number,
    check_whole,
)
from dqnrec_lite.encoding import BUY, IGNORE, VIEW, VectorParts, split_vectors
from dqnrec_lite.envs import shop
from dqnrec_lite.evaluation import Policy, evaluate
from dqnrec_lite.progress import progress_bar

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


def rested_interest(seen: VectorParts) -> np.ndarray:
    """Interest in each category, (n, C): looked at, less half of what was ignored.

    A category that stood on both last pages comes last, whatever the interest.
    """
    check_kind("seen", seen, VectorParts)
    looked = seen.by_category[:, :, VIEW:].sum(axis=2)
    tired = seen.last_shown.min(axis=1)
    return looked - 0.5 * seen.by_category[:, :, IGNORE] - 10.0 * tired


def passed_over_premium(seen: VectorParts, patience: float = 1.0) -> np.ndarray:
    """(n,) bool: has seen more premium items than `patience` (decayed count) and bought none?"""
    check_kind("seen", seen, VectorParts)
    check_number("patience", patience)
    passed, sold = seen.by_kind[:, 1, :BUY].sum(axis=1), seen.by_kind[:, 1, BUY]
    return (passed > patience) & (sold < 0.3)
