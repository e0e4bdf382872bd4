"""From steps to transitions of up to n rewards (Sutton & Barto, section 7.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dqnrec_lite._checks import check_number, check_whole
from dqnrec_lite.replay import Batch
from dqnrec_lite.sessions import Sessions, Step


@dataclass
class _Start:
    """Where n sessions stood at one step, and what they have earned since."""

    observation: np.ndarray  # (n, observation_size)
    action: np.ndarray  # (n,)
    open: np.ndarray  # (n,) bool: the transition that begins here is not complete yet
    reward: np.ndarray  # (n,) discounted sum so far
    steps: np.ndarray  # (n,) float64: rewards in it


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
        count = len(action)
        # Copies, for callers may write on theirs.
        first, taken, opened = np.array(observation), np.array(action), np.array(step.valid)
        self._starts.append(_Start(first, taken, opened, np.zeros(count), np.zeros(count)))
        ended, parts = step.terminated | step.truncated, []
        for start in self._starts:
            reward = self.discount**start.steps * step.reward
            start.reward += np.where(start.open, reward, 0)
            start.steps += 1
            complete = start.open & (ended | (start.steps >= self.n_step))
            parts.append(_transitions(start, complete, step))
        self._starts = [start for start in self._starts if start.open.any()]
        return _joined(parts)

    def flush(self, sessions: Sessions) -> Batch | None:
        """Sessions are given up: the transitions still open, as they stand, and none is left.

        Their session did not end, so they are not terminated, and bootstrap from the observations
        that would be acted on next. None: nothing was open.
        """
        never = np.zeros(sessions.num_envs, bool)
        now = Step(never, sessions.observations, never, never, never, sessions.action_mask)
        parts = [_transitions(start, start.open.copy(), now) for start in self._starts]
        self._starts = []
        return _joined(parts) if parts else None


def _transitions(start: _Start, rows: np.ndarray, step: Step) -> Batch:
    """Those of `rows`, (n,) bool, which end at `step`; they are open no longer."""
    start.open &= ~rows
    mask = step.next_action_mask
    return Batch(
        start.observation[rows],
        start.action[rows],
        start.reward[rows],
        step.next_observation[rows],
        step.terminated[rows],
        start.steps[rows],
        None if mask is None else mask[rows],
    )


def _joined(parts: list[Batch]) -> Batch:
    columns = zip(*parts, strict=True)
    return Batch(*(np.concatenate(column) for column in columns if column[0] is not None))
