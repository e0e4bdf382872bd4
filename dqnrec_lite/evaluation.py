"""How good is a policy, and how sure are we? Seeded roll-outs and honest intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from dqnrec_lite.sessions import Sessions

Policy = Callable[[np.ndarray], np.ndarray]  # (n, observation_size) -> (n,) integers
_NORMAL_975 = 1.959963984540054


@dataclass(frozen=True)
class Score:
    """Result of `evaluate`. Session i met the same customer in every evaluation with one seed."""

    returns: np.ndarray  # (episodes,) undiscounted return of each session
    lengths: np.ndarray  # (episodes,) steps

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def ci(self) -> tuple[float, float]:
        """95 % confidence interval of the mean return."""
        return confidence_interval(self.returns)

    def __str__(self) -> str:
        low, high = self.ci
        return f"{self.mean:.2f} [{low:.2f}, {high:.2f}]"


def evaluate(
    policy: Policy, envs: gym.Env | VectorEnv, episodes: int = 1000, seed: int | None = None
) -> Score:
    """Play `episodes` whole sessions and report their returns.

    Every one of the n parallel sessions plays its share of the episodes, so that short sessions,
    which end first, are not over-represented. Session i of two evaluations with the same seed is
    the same customer on the Shop: compare policies session by session (`paired_difference`).

    Args:
        policy: (n, observation_size) float32 -> (n,) integers, e.g. `agent.predict`.
        envs: single or vector environment.
        episodes: how many sessions.
        seed: of the environment; None: the one it was made with if it says so (`envs.seed`, as
            the Shop does), else 0.

    Raises:
        ValueError: episodes is below 1, or the policy returns something else than n actions.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes!r}: must be at least 1")
    sessions = Sessions(envs)
    if seed is None:
        seed = getattr(sessions.env.unwrapped, "seed", None)
    n = sessions.num_envs
    quota = (episodes - np.arange(n) + n - 1) // n  # sessions that each lane plays
    played = np.zeros(n, np.int64)
    returns, lengths = np.zeros((2, -(-episodes // n), n))
    sessions.reset(seed=int(seed) if isinstance(seed, Integral) else 0)
    while (played < quota).any():
        actions = np.asarray(policy(sessions.observations))
        if actions.shape != (n,) or actions.dtype.kind not in "iu":
            raise ValueError(
                f"policy: ({n},) integers expected, got {actions.dtype} of shape {actions.shape}"
            )
        step = sessions.step(actions.astype(np.int64))
        lanes = np.flatnonzero(step.valid & (played < quota))
        returns[played[lanes], lanes] += step.reward[lanes]
        lengths[played[lanes], lanes] += 1
        played += step.valid & (step.terminated | step.truncated)
    return Score(returns.ravel()[:episodes], lengths.ravel()[:episodes])


def confidence_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of independent values, by Student's t.

    The quantile is the asymptotic expansion 26.7.5 of Abramowitz & Stegun (1964), right to 0.008
    from 5 values on.

    Raises:
        ValueError: fewer than 5 values: too few for an interval that means anything.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 5:
        raise ValueError(f"values: at least 5 in one dimension expected, got shape {values.shape}")
    z, freedom = _NORMAL_975, len(values) - 1
    quantile = (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
    mean = values.mean()
    half = quantile * values.std(ddof=1) / np.sqrt(len(values))
    return float(mean - half), float(mean + half)


def paired_difference(ours: Score, theirs: Score) -> tuple[float, tuple[float, float]]:
    """Mean lead in return, session by session, and its 95 % interval.

    Common random numbers: on the same customers most of the luck cancels (Law, Simulation Modeling
    and Analysis, chapter 11).

    Raises:
        ValueError: the scores hold different numbers of sessions.
    """
    if ours.returns.shape != theirs.returns.shape:
        raise ValueError(f"scores of {len(ours.returns)} and {len(theirs.returns)} sessions")
    lead = ours.returns - theirs.returns
    return float(lead.mean()), confidence_interval(lead)


def interquartile_mean(values: np.ndarray) -> float:
    """Mean of the middle half: a quarter is cut off at each end (Agarwal et al., arXiv:2108.13264).

    Raises:
        ValueError: there are no values.
    """
    ordered = np.sort(np.ravel(values))
    if ordered.size == 0:
        raise ValueError("values: at least one expected")
    cut = ordered.size // 4
    return float(ordered[cut : ordered.size - cut].mean())
