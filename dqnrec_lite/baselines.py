"""What a DQN must beat on the Shop. Every policy is a function (n, observation) -> (n,) items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, permutations, product

import numpy as np

from dqnrec_lite import shop
from dqnrec_lite.agent import DQN
from dqnrec_lite.config import DQNConfig
from dqnrec_lite.encoding import BUY, EVENTS, IGNORE
from dqnrec_lite.evaluation import Policy, evaluate
from dqnrec_lite.progress import progress_bar

_CATEGORIES, _KINDS = len(shop.CATEGORIES), len(shop.KINDS)


def random_policy(num_actions: int, seed: int = 0) -> Policy:
    """Every item with the same chance."""
    rng = np.random.default_rng(seed)
    return lambda observations: rng.integers(0, num_actions, len(observations))


def fixed_policy(items: list[int], page_limit: int = shop.PAGE_LIMIT) -> Policy:
    """The items in this order, over and over, whoever the customer is. One item: always that."""
    order = np.array(items)

    def policy(observations: np.ndarray) -> np.ndarray:
        page = np.rint(observations[:, -1] * page_limit).astype(np.int64)
        return order[page % len(order)]

    return policy


def most_popular_item(envs: shop.ShopVectorEnv, pages: int = 100_000, seed: int = 0) -> int:
    """The item with the most purchases when all are shown equally often, as a best-seller list."""
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
    size = _CATEGORIES * len(EVENTS)

    def policy(observations: np.ndarray) -> np.ndarray:
        counts = observations[:, :size].reshape(-1, _CATEGORIES, len(EVENTS))
        kinds = observations[:, size : size + _KINDS * 4].reshape(-1, _KINDS, len(EVENTS))
        tail = observations[:, size + _KINDS * 4 :]
        last = tail[:, _CATEGORIES : 3 * _CATEGORIES].reshape(-1, 2, _CATEGORIES)
        interest = counts[:, :, 1:].sum(axis=2) - 0.5 * counts[:, :, IGNORE]
        interest = interest - 10.0 * last.min(axis=1)
        category = interest.argmax(axis=1)
        bought_last = tail[:, 3 * _CATEGORIES + BUY] > 0
        category = np.where(bought_last, shop.COMPLEMENT[last[:, 0].argmax(axis=1)], category)
        passed, sold = kinds[:, 1, :BUY].sum(axis=1), kinds[:, 1, BUY]
        kind = np.where((passed > patience) & (sold < 0.3), 0, 1)
        return category * _KINDS + kind

    return policy


def train_myopic(
    envs: shop.ShopVectorEnv, total_steps: int, config: DQNConfig | None = None
) -> DQN:
    """A DQN with discount 0: the same agent, asked only what this page will earn."""
    config = replace(config if config is not None else DQNConfig(), discount=0.0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    agent.learn(envs, total_steps)
    return agent


def train_linucb(
    envs: shop.ShopVectorEnv, total_steps: int, alpha: float = 0.5, seed: int = 0
) -> Policy:
    """LinUCB with disjoint linear models (Li et al., arXiv:1003.0146, algorithm 1).

    A contextual bandit: it learns online what each item earns at once, given the observation, and
    explores by its own uncertainty. Observations come and models are updated a page of all sessions
    at a time.

    Args:
        envs: the Shop.
        total_steps: transitions to learn from.
        alpha: weight of the confidence width while learning; the returned policy uses none.
        seed: of the environment.
    """
    size = envs.encoder.size + 1  # and a constant
    precision = np.tile(np.eye(size), (shop.NUM_ITEMS, 1, 1))
    evidence = np.zeros((shop.NUM_ITEMS, size))

    def features(observations: np.ndarray) -> np.ndarray:
        return np.hstack([observations, np.ones((len(observations), 1))]).astype(np.float64)

    x = features(envs.reset(seed=seed)[0])
    for _ in progress_bar(range(-(-total_steps // envs.num_envs)), unit="page"):
        inverse = np.linalg.inv(precision)
        weights = np.einsum("aij,aj->ai", inverse, evidence)
        width = np.sqrt(np.einsum("ni,aij,nj->na", x, inverse, x, optimize=True))
        items = (x @ weights.T + alpha * width).argmax(axis=1)
        observations, reward, *_ = envs.step(items)
        for item in np.unique(items):
            shown = x[items == item]
            precision[item] += shown.T @ shown
            evidence[item] += reward[items == item] @ shown
        x = features(observations)
    weights = np.linalg.solve(precision, evidence[..., None])[..., 0]
    return lambda observations: (features(observations) @ weights.T).argmax(axis=1)
