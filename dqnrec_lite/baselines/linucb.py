"""LinUCB, a contextual bandit: it learns online, without a network, what a page earns at once."""

from __future__ import annotations

import numpy as np

from dqnrec_lite._checks import check_array, check_number, check_whole
from dqnrec_lite.envs import shop
from dqnrec_lite.evaluation import Policy
from dqnrec_lite.progress import RecentReturn, progress_bar


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
    _check_training(envs, total_steps, seed)
    check_number("alpha", alpha, 0.0)
    size = envs.encoder.size + 1  # and a constant
    precision = np.tile(np.eye(size), (shop.NUM_ITEMS, 1, 1))
    evidence = np.zeros((shop.NUM_ITEMS, size))

    def features(observations: np.ndarray) -> np.ndarray:
        check_array("observations", observations, ("n", size - 1))
        return np.hstack([observations, np.ones((len(observations), 1))]).astype(np.float64)

    x = features(envs.reset(seed=seed)[0])
    recent = RecentReturn(envs.num_envs)
    with progress_bar(total=total_steps, unit="step") as bar:
        for _ in range(-(-total_steps // envs.num_envs)):
            inverse = np.linalg.inv(precision)
            weights = np.einsum("aij,aj->ai", inverse, evidence)
            width = np.sqrt(np.einsum("ni,aij,nj->na", x, inverse, x, optimize=True))
            items = (x @ weights.T + alpha * width).argmax(axis=1)
            observations, reward, terminated, truncated, _ = envs.step(items)
            for item in np.unique(items):
                shown = x[items == item]
                precision[item] += shown.T @ shown
                evidence[item] += reward[items == item] @ shown
            x = features(observations)
            recent.add(reward, terminated | truncated)
            bar.set_postfix_str(str(recent), refresh=False)
            bar.update(min(envs.num_envs, total_steps - bar.n))
    weights = np.linalg.solve(precision, evidence[..., None])[..., 0]
    return lambda observations: (features(observations) @ weights.T).argmax(axis=1)


def _check_training(envs: shop.ShopVectorEnv, total_steps: int, seed: int) -> None:
    if not all(hasattr(envs, name) for name in ("num_envs", "reset", "step")):
        raise TypeError(f"envs: the Shop expected, got {type(envs).__name__}")
    check_whole("total_steps", total_steps)
    check_whole("seed", seed, 0)
