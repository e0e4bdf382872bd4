"""Rules that a shopkeeper could write down.

Every policy is a function, (n, observation_size) float32 -> (n,) items.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations, permutations, product

import numpy as np
from tqdm.auto import tqdm

from dqnrec_lite._checks import (
    MANY,
    check_array,
    check_integers,
    check_kind,
    check_number,
    check_whole,
)
from dqnrec_lite.encoding import BUY, DECAY, IGNORE, VIEW, VectorParts, split_vectors
from dqnrec_lite.envs import shop
from dqnrec_lite.evaluation import Policy, evaluate

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
    """The items in this order, over and over, whoever the customer is. One item: always that.

    The page is read from the observation, which holds it as a share of the page limit.

    Args:
        items: what to show, page by page, then from the first again.
        page_limit: that of the Shop to be served.

    Raises:
        ValueError: an item does not exist, or there is none; or, when the policy is called, the
            observations are of a Shop with another page limit.
    """
    order = check_integers("items", items, ("n",), shop.NUM_ITEMS).copy()
    if not order.size:
        raise ValueError("items: at least one expected, got none")
    check_whole("page_limit", page_limit, 1, MANY)

    def policy(observations: np.ndarray) -> np.ndarray:
        seen = split_vectors(observations, _CATEGORIES, _KINDS)
        page = seen.page * page_limit  # whole, but for float32
        # The counts know the page too: each one added 1, of which a page leaves the share DECAY.
        counted, due = seen.by_kind.sum(axis=(1, 2)), (1 - DECAY**page) / (1 - DECAY)
        if not np.allclose(counted, due, rtol=0.0, atol=1e-4):
            raise ValueError(
                f"observations: those of a Shop with page_limit={page_limit} expected; "
                "for another pass fixed_policy its page_limit"
            )
        return order[np.rint(page).astype(np.int64) % len(order)]

    return policy


def most_popular_item(
    envs: shop.ShopVectorEnv, pages: int = 100_000, seed: int | None = None
) -> int:
    """The item with the most purchases when all are shown equally often, as a best-seller list.

    Args:
        envs: the Shop.
        pages: how many to show, at least.
        seed: random seed of the customers and of what they are shown; None: that of `envs`.
    """
    check_kind("envs", envs, shop.ShopVectorEnv)
    check_whole("pages", pages, 1, 10**9)
    seed = envs.seed if seed is None else check_whole("seed", seed, 0)
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
    """The best of `fixed_rules`: all meet the same customers, the best few ten times as many.

    Args:
        seed: random seed of the customers; the finalists meet those of the next seed.
        customers: sessions that each rule plays, ten times as many in the final.
        finalists: rules that reach the final.
    """
    check_whole("finalists", finalists, 1, MANY)
    rules = list(fixed_rules())
    envs = shop.make_shop(customers, seed=seed)
    hidden = bool(os.environ.get("TQDM_DISABLE"))
    bar = tqdm(rules, unit="rule", leave=False, disable=hidden)
    means = [evaluate(fixed_policy(rule), envs, customers).mean for rule in bar]
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
