"""LinUCB, a contextual bandit: it learns online, without a network, what a page earns at once."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from dqnrec_lite._checks import check_array, check_number
from dqnrec_lite.baselines.online import learn_online, start_sessions
from dqnrec_lite.evaluation import Policy
from dqnrec_lite.sessions import Step


def train_linucb(
    envs: gym.Env | VectorEnv, total_steps: int, alpha: float = 0.5, seed: int | None = None
) -> Policy:
    """LinUCB with disjoint linear models (Li et al., arXiv:1003.0146, algorithm 1).

    A contextual bandit: it learns online what each item earns at once, given the observation, and
    explores by its own uncertainty. Observations come and models are updated a page of all sessions
    at a time.

    Args:
        envs: the Shop, or any environment that `Sessions` takes; each action is an item.
        total_steps: transitions to learn from.
        alpha: weight of the confidence width while learning; the returned policy uses none.
        seed: random seed of the environment; None: the one that it was made with.

    Raises:
        TypeError: envs is no environment.
        ValueError: an argument is out of range, or the environment's spaces are of another kind.
    """
    check_number("alpha", alpha, 0.0)
    sessions, _ = start_sessions(envs, total_steps, seed)
    size = sessions.observation_size + 1  # and a constant
    precision = np.tile(np.eye(size), (len(sessions.actions), 1, 1))
    evidence = np.zeros((len(sessions.actions), size))

    def features(observations: np.ndarray) -> np.ndarray:
        check_array("observations", observations, ("n", size - 1))
        return np.hstack([observations, np.ones((len(observations), 1))]).astype(np.float64)

    def choose(observations: np.ndarray, share: float) -> np.ndarray:
        x = features(observations)
        inverse = np.linalg.inv(precision)
        weights = np.einsum("aij,aj->ai", inverse, evidence)
        width = np.sqrt(np.einsum("ni,aij,nj->na", x, inverse, x, optimize=True))
        return (x @ weights.T + alpha * width).argmax(axis=1)

    def learn(observations: np.ndarray, items: np.ndarray, step: Step) -> None:
        x = features(observations)
        for item in np.unique(items):
            rows = step.valid & (items == item)
            shown = x[rows]
            precision[item] += shown.T @ shown
            evidence[item] += step.reward[rows] @ shown

    learn_online(sessions, total_steps, choose, learn)
    weights = np.linalg.solve(precision, evidence[..., None])[..., 0]
    return lambda observations: (features(observations) @ weights.T).argmax(axis=1)
