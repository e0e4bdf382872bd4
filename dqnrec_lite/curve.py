"""What happened in training: the rows of a learning curve."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from dqnrec_lite._checks import check_whole
from dqnrec_lite.config import DQNConfig
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


@dataclass
class TrainingCall:
    """One call of `DQN.learn`: its arguments, and how far it came."""

    total_steps: int
    checkpoint_every: int
    num_envs: int
    done: int = 0  # transitions of this call
    curve: list[tuple[float, ...]] = field(default_factory=list)  # rows of its `LearningCurve`

    def __post_init__(self) -> None:
        self.total_steps = check_whole("total_steps", self.total_steps)
        self.checkpoint_every = check_whole("checkpoint_every", self.checkpoint_every)

    @property
    def progress(self) -> float:
        """From 0 at the start to 1 at the end."""
        return self.done / self.total_steps

    @property
    def next_checkpoint(self) -> int:
        """Transitions of this call at which it saves next; at the end at the latest."""
        every = self.checkpoint_every
        return min(self.total_steps, (self.done // every + 1) * every)

    def check_finished_by(self, other: TrainingCall, saves: bool) -> None:
        """A ValueError unless `other`, which saves or not, has the arguments of this one."""
        ours = self.total_steps, self.checkpoint_every, self.num_envs
        theirs = other.total_steps, other.checkpoint_every, other.num_envs
        if ours != theirs or not saves:
            raise ValueError(
                f"unfinished training: {self.done} of {self.total_steps} transitions are done. To "
                f"finish it, pass total_steps={self.total_steps}, checkpoint_every="
                f"{self.checkpoint_every}, a checkpoint_dir and {self.num_envs} sessions; to give "
                "it up, set agent.unfinished=None"
            )


# Action values, -inf where forbidden: (n, observation_size), (n, actions) or None -> (n, actions).
Values = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


class CurveWriter:
    """Collects the rows of a `LearningCurve` while training runs, and shows how far it is.

    Args:
        q: action values of observations with their mask, by the weights that act.
        call: the training call; its rows are continued.
        discount: gamma, of `discounted_return`.
        progress: show a bar (`TQDM_DISABLE=1` in the environment hides it).
    """

    def __init__(self, q: Values, call: TrainingCall, discount: float, progress: bool) -> None:
        self.q, self.call, self.discount = q, call, discount
        self.total, self.every = call.total_steps, -(-call.total_steps // CURVE_POINTS)
        hidden = not progress or bool(os.environ.get("TQDM_DISABLE"))
        self.bar = tqdm(
            total=self.total, initial=call.done, unit="step", disable=hidden, leave=False
        )
        self._begin_stretch()
        self.restart()

    def __enter__(self) -> CurveWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def restart(self) -> None:
        """All sessions start anew; what the old ones have earned so far counts nowhere."""
        self.returns, self.discounted, self.lengths = np.zeros((3, self.call.num_envs))
        self.first: np.ndarray | None = None
        self.first_mask: np.ndarray | None = None

    def _begin_stretch(self) -> None:
        self.next_at = min((self.call.done // self.every + 1) * self.every, self.total)
        self.ended: list[tuple[float, ...]] = []
        self.ended_first: list[np.ndarray] = []
        self.ended_masks: list[np.ndarray] = []
        self.learned: list[tuple[float, float]] = []

    def watch(self, observation: np.ndarray, mask: np.ndarray | None, step: Step) -> None:
        """What was acted on, (n, observation_size) and (n, actions), and what came back."""
        if self.first is None:
            self.first = observation.copy()
            self.first_mask = None if mask is None else mask.copy()
        starts = step.valid & (self.lengths == 0)
        self.first[starts] = observation[starts]
        if self.first_mask is not None and mask is not None:
            self.first_mask[starts] = mask[starts]
        reward = np.where(step.valid, step.reward, 0.0)
        self.returns += reward
        self.discounted += self.discount**self.lengths * reward
        self.lengths += step.valid
        over = step.valid & (step.terminated | step.truncated)
        if over.any():
            columns = self.returns, self.lengths, self.discounted
            self.ended += zip(*(column[over] for column in columns), strict=True)
            self.ended_first.append(self.first[over])
            if self.first_mask is not None:
                self.ended_masks.append(self.first_mask[over])
            for column in columns:
                column[over] = 0.0
        self.bar.update(min(int(step.valid.sum()), self.total - self.bar.n))

    def updates(self, td_error: float, q_value: float) -> None:
        """What one call of updates measured."""
        self.learned.append((td_error, q_value))

    @property
    def due(self) -> bool:
        """Is it time for a row?"""
        return self.call.done >= self.next_at

    def row(self, transitions: int, epsilon: float, stored: int) -> None:
        """Close the stretch: a row, to TensorBoard too if the caller has opened a writer."""
        nothing = float("nan")
        ended = np.mean(self.ended, axis=0) if self.ended else [nothing] * 3
        learned = np.mean(self.learned, axis=0) if self.learned else [nothing] * 2
        start_value = nothing
        if self.ended_first:
            masks = np.concatenate(self.ended_masks) if self.ended_masks else None
            start_value = self.q(np.concatenate(self.ended_first), masks).max(axis=1).mean()
        measured = map(float, [*ended, start_value, *learned])
        self.call.curve.append((transitions, *measured, float(epsilon), stored))
        row = dict(zip(LearningCurve._fields, self.call.curve[-1], strict=True))
        returned = f"return {row['mean_return']:.3g}, " if self.ended else ""
        self.bar.set_postfix_str(f"{returned}epsilon {epsilon:.2f}")
        self._begin_stretch()
        _write_summary(row)

    def finish(self) -> LearningCurve:
        """The rows as arrays."""
        return LearningCurve(*np.array(self.call.curve).T)


def _write_summary(row: dict[str, float]) -> None:
    """One scalar a column for TensorBoard, if the caller has opened a writer."""
    import tensorflow as tf

    if tf.summary.should_record_summaries():
        for name, value in row.items():
            if name != "transitions" and np.isfinite(value):
                tf.summary.scalar(name, value, step=int(row["transitions"]))


def warn_of_useless(
    config: DQNConfig, found: Any, reward: np.ndarray, stored: int, updates: int, every: int
) -> None:
    """Warn, once for each, of what makes a training call useless.

    1. The replay buffer never held `learning_starts` transitions: no gradient step was made.
    2. The target network was copied to less often than the discount looks steps ahead, which is
       1 / (1 - discount): a copy hands the rewards one step further back (the book, chapter 5).
    3. The values have come less than half of the way to their targets. That is: the mean TD error
       is more than half of the mean target, and more than twice its own standard deviation, so that
       neither noise explains it, nor that Huber's loss aims at the median, which lies within one of
       the mean.

    Args:
        config: the settings.
        found: `Updates.loss` of some stored transitions.
        reward: (batch,) their rewards.
        stored: transitions in the replay buffer.
        updates: gradient steps made in the call; fewer than 100 tell nothing of values.
        every: gradient steps between two copies into the target network.
    """
    if stored < config.learning_starts and config.updates_per_transition > 0:
        _warn(
            f"{stored} transitions are stored, fewer than DQNConfig.learning_starts="
            f"{config.learning_starts}: nothing was learnt. Raise total_steps, or lower "
            "learning_starts"
        )
    if updates < 100:
        return
    horizon, copies = 1 / max(1e-9, 1 - config.discount), updates // every
    if config.target_tau is None and copies + 1 < horizon < 1e6:
        _warn(
            f"the target network was copied to {copies} times in {updates} gradient steps, so the "
            f"values look about {copies} steps ahead, and discount={config.discount} looks "
            f"{horizon:.0f} ahead. Set DQNConfig.target_sync_every to "
            f"{max(1, int(updates / (4 * horizon)))}, or raise updates_per_transition or "
            "total_steps"
        )
    error, q = np.asarray(found.td_error), np.asarray(found.q_value)
    gap = abs(error.mean())
    if gap > 0.5 * abs((error + q).mean()) and gap > 2.0 * error.std():
        size = np.abs(reward).mean()
        _warn(
            f"rewards are {size:.3g} in size, but after {updates} gradient steps the values are "
            f"{np.abs(q).mean():.3g}, and their targets lie {gap:.3g} away: steps of this size do "
            f"not reach them. Divide the rewards by {size:.1g}, or raise DQNConfig.learning_rate, "
            "updates_per_transition or total_steps"
        )


def _warn(what: str) -> None:
    warnings.warn(f"learn: {what}", stacklevel=4)  # whoever called `learn`
