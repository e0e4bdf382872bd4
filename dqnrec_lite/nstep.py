"""From steps to transitions of up to n rewards (Sutton & Barto, section 7.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dqnrec_lite._checks import check_number, check_whole
from dqnrec_lite.replay import Batch
from dqnrec_lite.sessions import Mask, Sessions, Step


@dataclass
class _Start:
    """Where n sessions stood at one step, and what they have earned since."""

    observation: np.ndarray  # (n, observation_size)
    action: np.ndarray  # (n,)
    pending: np.ndarray  # (n,) bool: the transition that begins here is not complete yet

    def __post_init__(self) -> None:
        self.reward, self.steps = np.zeros((2, len(self.action)))  # discounted sum; how many


class NStepWindow:
    """Turns steps of sessions into transitions of up to `n_step` rewards.

    A transition is complete when it holds `n_step` rewards or its session ends, whichever is first;
    so none reaches across a reset, and the last ones of a session are shorter. With n_step=1 each
    step is one transition.

    Args:
        n_step: rewards of a complete transition.
        discount: gamma, in [0, 1].

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, n_step: int, discount: float) -> None:
        self.n_step = check_whole("n_step", n_step)
        self.discount = check_number("discount", discount, 0.0, 1.0)
        self._starts: list[_Start] = []

    def push(self, observation: np.ndarray, action: np.ndarray, step: Step) -> Batch:
        """Add one step of n sessions; returns the transitions that it completes, oldest first.

        Args:
            observation: (n, observation_size), acted on.
            action: (n,) integers.
            step: what came back.
        """
        # Copies, for callers may write on theirs.
        start = _Start(np.array(observation), np.array(action), np.array(step.valid))
        self._starts.append(start)
        ended = step.terminated | step.truncated
        there = step.next_observation, step.terminated, step.next_action_mask
        parts = []
        for start in self._starts:
            reward = self.discount**start.steps * step.reward
            start.reward += np.where(start.pending, reward, 0)
            start.steps += 1
            complete = start.pending & (ended | (start.steps >= self.n_step))
            parts.append(_transitions(start, complete, *there))
            start.pending &= ~complete
        self._starts = [start for start in self._starts if start.pending.any()]
        return _joined(parts)

    def flush(self, sessions: Sessions) -> Batch | None:
        """The transitions still pending, as they stand, when the sessions are given up.

        Their session did not end, so they are not terminated, and bootstrap from the observations
        that would be acted on next. None: nothing was pending.
        """
        here = sessions.observations, np.zeros(sessions.num_envs, bool), sessions.action_mask
        parts = [_transitions(start, start.pending, *here) for start in self._starts]
        self._starts = []
        return _joined(parts) if parts else None


def _transitions(
    start: _Start,
    rows: np.ndarray,
    next_observation: np.ndarray,
    terminated: np.ndarray,
    mask: Mask,
) -> Batch:
    """The transitions from `start` to where n sessions are now, of those in `rows`, (n,) bool."""
    return Batch(
        start.observation[rows],
        start.action[rows],
        start.reward[rows],
        next_observation[rows],
        terminated[rows],
        start.steps[rows],
        None if mask is None else mask[rows],
    )


def _joined(parts: list[Batch]) -> Batch:
    columns = zip(*parts, strict=True)  # the mask, which stands last, may be missing
    return Batch(*(np.concatenate(column) for column in columns if column[0] is not None))
