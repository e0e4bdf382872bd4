"""What happened in training: the rows of a learning curve."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from dqnrec_lite.sessions import Step

CURVE_POINTS = 50  # rows of a learning curve


class LearningCurve(NamedTuple):
    """What happened in training, in up to 50 rows; arrays of one length.

    A checkpoint ends a stretch too, so a call with checkpoints may have a row more for each. NaN
    stands where nothing was measured: no session ended, or no call of updates, in that stretch.

    `start_value` far above `discounted_return` is the sign of over-estimation: the agent promises
    at the door what it does not keep. Towards the end of training the two should be close; early
    on the return is that of an agent that still explores.
    """

    transitions: np.ndarray  # transitions seen by the agent so far
    mean_return: np.ndarray  # undiscounted, of the sessions that ended in the stretch; exploring
    mean_length: np.ndarray  # steps, of the same sessions
    discounted_return: np.ndarray  # mean, of the same sessions, by the config's discount
    start_value: np.ndarray  # mean max q(s, a) at their first observations, by the weights that act
    td_error: np.ndarray  # mean |target - q(s, a)| over the calls taken over in it
    q_value: np.ndarray  # mean q(s, a) over the same
    epsilon: np.ndarray  # at the end of the stretch
    buffer_size: np.ndarray  # transitions in the replay buffer


class CurveWriter:
    """Collects the rows of a `LearningCurve` while training runs.

    Args:
        total_steps: transitions of the training call.
        num_envs: sessions side by side.
        discount: gamma, of `discounted_return`.
        rows: those of the same call so far, if it goes on from a checkpoint.
        done: transitions of the same call so far.
    """

    def __init__(
        self,
        total_steps: int,
        num_envs: int,
        discount: float,
        rows: Iterable[Iterable[float]] = (),
        done: int = 0,
    ) -> None:
        self.total, self.every = total_steps, -(-total_steps // CURVE_POINTS)
        self.num_envs, self.discount = num_envs, discount
        self.rows = [tuple(row) for row in rows]
        self._begin_stretch(done)
        self.restart()

    def restart(self) -> None:
        """All sessions start anew; what the old ones have earned so far counts nowhere."""
        self.returns, self.discounted, self.lengths = np.zeros((3, self.num_envs))
        self.first: np.ndarray | None = None

    def _begin_stretch(self, done: int) -> None:
        self.next_at = min((done // self.every + 1) * self.every, self.total)
        self.ended: list[tuple[float, ...]] = []
        self.ended_first: list[np.ndarray] = []
        self.learned: list[tuple[float, float]] = []

    def session_step(self, observation: np.ndarray, step: Step) -> None:
        """What was acted on, (n, observation_size), and what came back."""
        if self.first is None:
            self.first = observation.copy()
        starts = step.valid & (self.lengths == 0)
        self.first[starts] = observation[starts]
        reward = np.where(step.valid, step.reward, 0.0)
        self.returns += reward
        self.discounted += self.discount**self.lengths * reward
        self.lengths += step.valid
        over = step.valid & (step.terminated | step.truncated)
        if over.any():
            columns = self.returns, self.lengths, self.discounted
            self.ended += zip(*(column[over] for column in columns), strict=True)
            self.ended_first.append(self.first[over])
            for column in columns:
                column[over] = 0.0

    def updates(self, td_error: float, q_value: float) -> None:
        """What one call of updates measured."""
        self.learned.append((td_error, q_value))

    def due(self, done: int) -> bool:
        """Is it time for a row, after `done` transitions of this call?"""
        return done >= self.next_at

    def row(
        self,
        done: int,
        transitions: int,
        epsilon: float,
        stored: int,
        q_values: Callable[[np.ndarray], np.ndarray],
    ) -> dict[str, float]:
        """Close the stretch; its row, by column."""
        nothing = float("nan")
        ended = np.mean(self.ended, axis=0) if self.ended else [nothing] * 3
        learned = np.mean(self.learned, axis=0) if self.learned else [nothing] * 2
        start_value = nothing
        if self.ended_first:
            start_value = q_values(np.concatenate(self.ended_first)).max(axis=1).mean()
        measured = map(float, [*ended, start_value, *learned])
        self.rows.append((transitions, *measured, float(epsilon), stored))
        self._begin_stretch(done)
        return dict(zip(LearningCurve._fields, self.rows[-1], strict=True))

    def finish(self) -> LearningCurve:
        """The rows as arrays."""
        return LearningCurve(*np.array(self.rows).T)
