"""The loop of the baselines that learn while they serve."""

from __future__ import annotations

import os
from collections.abc import Callable

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from tqdm.auto import tqdm

from dqnrec_lite._checks import check_whole
from dqnrec_lite.evaluation import seed_of
from dqnrec_lite.sessions import Sessions, Step

Choose = Callable[[np.ndarray, float], np.ndarray]  # observations, share of the time gone -> items
Learn = Callable[[np.ndarray, np.ndarray, Step], None]  # observations, items, what came of them


def start_sessions(
    envs: gym.Env | VectorEnv, total_steps: int, seed: int | None
) -> tuple[Sessions, int]:
    """The sessions, reset, and their seed: the one given, else the one `envs` was made with."""
    check_whole("total_steps", total_steps)
    sessions = Sessions(envs)
    seed = seed_of(envs) if seed is None else check_whole("seed", seed, 0)
    sessions.reset(seed=seed)
    return sessions, seed


def learn_online(sessions: Sessions, total_steps: int, choose: Choose, learn: Learn) -> None:
    """Choose and learn, a step of all sessions at a time, under a progress bar.

    The bar shows the mean return of the sessions that ended last.
    """
    n = sessions.num_envs
    returns = np.zeros(n)
    hidden = bool(os.environ.get("TQDM_DISABLE"))
    with tqdm(total=total_steps, unit="step", leave=False, disable=hidden) as bar:
        for done in range(0, total_steps, n):
            observations = sessions.observations
            items = choose(observations, done / total_steps)
            step = sessions.step(items)
            learn(observations, items, step)
            returns += step.reward
            ended = step.terminated | step.truncated
            if ended.any():
                bar.set_postfix_str(f"return {returns[ended].mean():.3g}", refresh=False)
                returns[ended] = 0.0
            bar.update(min(n, total_steps - done))
