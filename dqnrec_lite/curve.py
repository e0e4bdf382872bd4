"""What happened in training: the rows of a learning curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dqnrec_lite.sessions import Step

CURVE_POINTS = 50  # rows of a learning curve


class LearningCurve(NamedTuple):
    """What happened in training, in up to 50 rows; arrays of one length.

    NaN stands where nothing was measured: no session ended, or no update was made in that stretch.
    """

    transitions: np.ndarray  # transitions seen by the agent so far
    mean_return: np.ndarray  # undiscounted, of the sessions that ended in the stretch; exploring
    mean_length: np.ndarray  # steps, of the same sessions
    td_error: np.ndarray  # mean |target - q(s, a)| over the stretch's updates
    q_value: np.ndarray  # mean q(s, a) over the same
    epsilon: np.ndarray  # at the end of the stretch
    buffer_size: np.ndarray  # transitions in the replay buffer


class CurveWriter:
    """Collects the rows of a `LearningCurve` while training runs."""

    def __init__(self, total_steps: int, num_envs: int) -> None:
        self.total, self.every = total_steps, -(-total_steps // CURVE_POINTS)
        self.next_at = self.every
        self.returns, self.lengths = np.zeros(num_envs), np.zeros(num_envs)
        self.rows: list[tuple[float, ...]] = []
        self._clear()

    def _clear(self) -> None:
        self.ended: list[tuple[float, float]] = []
        self.learned: list[tuple[float, float]] = []

    def session_step(self, step: Step) -> None:
        self.returns += np.where(step.valid, step.reward, 0.0)
        self.lengths += step.valid
        over = step.valid & (step.terminated | step.truncated)
        if over.any():
            self.ended += zip(self.returns[over], self.lengths[over], strict=True)
            self.returns[over] = self.lengths[over] = 0.0

    def updates(self, td_error: float, q_value: float) -> None:
        self.learned.append((td_error, q_value))

    def due(self, done: int) -> bool:
        return done >= self.next_at

    def row(self, transitions: int, epsilon: float, stored: int) -> None:
        def mean(pairs: list[tuple[float, float]]) -> tuple[float, ...]:
            return tuple(np.mean(pairs, axis=0)) if pairs else (np.nan, np.nan)

        self.rows.append((transitions, *mean(self.ended), *mean(self.learned), epsilon, stored))
        self.next_at = min(self.next_at + self.every, self.total)
        self._clear()

    def finish(self) -> LearningCurve:
        return LearningCurve(*np.array(self.rows).T)
