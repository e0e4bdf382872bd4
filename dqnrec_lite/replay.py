"""Replay buffer: the agent's memory of transitions, a ring on preallocated arrays.

Lin (Machine Learning 8, 1992) introduced experience replay; Mnih et al. (Nature 518, 2015) sample
it uniformly. Sampling at random breaks the correlation between neighbouring transitions, and lets
each be used more than once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dqnrec_lite._checks import (
    check_array,
    check_flags,
    check_integers,
    check_kind,
    check_number,
    check_whole,
)
from dqnrec_lite.sessions import Step


class Batch(NamedTuple):
    """Transitions; every array has the same leading shape, written (...) here."""

    observation: np.ndarray  # (..., observation_size) float32
    action: np.ndarray  # (...) int32
    reward: np.ndarray  # (...) float32, the n-step sum where n_step > 1
    next_observation: np.ndarray  # (..., observation_size) float32
    terminated: np.ndarray  # (...) float32: 1.0 where the session really ended
    steps: np.ndarray  # (...) float32: how many rewards `reward` holds, 1 to n_step


class ReplayBuffer:
    """The last `capacity` transitions; old ones are overwritten first.

    Args:
        capacity: how many transitions are kept.
        observation_size: length of an observation.

    Raises:
        ValueError: capacity or observation_size is below 1, or more than fits into memory.
    """

    def __init__(self, capacity: int, observation_size: int) -> None:
        self.capacity = capacity = check_whole("capacity", capacity)
        size = check_whole("observation_size", observation_size)
        try:
            self.data = Batch(
                observation=np.zeros((capacity, size), np.float32),
                action=np.zeros(capacity, np.int32),
                reward=np.zeros(capacity, np.float32),
                next_observation=np.zeros((capacity, size), np.float32),
                terminated=np.zeros(capacity, np.float32),
                steps=np.zeros(capacity, np.float32),
            )
        except (MemoryError, ValueError) as error:
            needs = f"{capacity * (8 * size + 16) / 1e9:.3g} GB"
            raise ValueError(
                f"{capacity=}, observation_size={size}: {needs} do not fit into memory"
            ) from error
        self.position = 0  # where the next transition goes
        self.size = 0  # how many are stored

    def __len__(self) -> int:
        return self.size

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays, capacity * (8 * observation_size + 16)."""
        return sum(array.nbytes for array in self.data)

    def add(self, batch: Batch) -> None:
        """Store m transitions. All are checked before any is written.

        Raises:
            TypeError: no Batch.
            ValueError: arrays of unlike length, wrong observation size, NaN or infinite numbers,
                negative actions, terminated neither 0 nor 1, steps below 1, or more transitions
                than the buffer holds.
        """
        check_kind("batch", batch, Batch)
        count = len(check_integers("action", batch.action, ("m",), 2**31))
        if count > self.capacity:
            raise ValueError(f"batch of {count} transitions: the buffer holds {self.capacity}")
        for name, array, kept in zip(Batch._fields, batch, self.data, strict=True):
            check_array(name, array, (count, *kept.shape[1:]))
        check_flags("terminated", batch.terminated)
        if count and np.min(batch.steps) < 1:
            raise ValueError(f"steps: at least 1 expected, got {np.min(batch.steps)}")
        self._add(batch)

    def _add(self, batch: Batch) -> None:
        """`add` without the checks: for transitions that are known to be right."""
        count = len(batch.action)
        start, until_end = self.position, min(count, self.capacity - self.position)
        for array, kept in zip(batch, self.data, strict=True):
            kept[start : start + until_end] = array[:until_end]
            if until_end < count:  # the rest goes to the beginning of the ring
                kept[: count - until_end] = array[until_end:]
        self.position = (start + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def sample(self, shape: int | tuple[int, ...], rng: np.random.Generator) -> Batch:
        """Transitions drawn uniformly, with replacement.

        Args:
            shape: leading shape of the result, e.g. (updates, batch_size).
            rng: NumPy generator; the same state gives the same sample.

        Raises:
            TypeError: rng is no generator.
            ValueError: the buffer is empty, or shape holds something else than whole numbers.
        """
        check_kind("rng", rng, np.random.Generator)
        for length in shape if isinstance(shape, tuple) else (shape,):
            check_whole("shape", length, 0, 2**31)
        if self.size == 0:
            raise ValueError("sample: the buffer is empty")
        where = rng.integers(0, self.size, shape)
        return Batch(*(kept[where] for kept in self.data))


class NStepWindow:
    """Turns steps of sessions into transitions of up to `n_step` rewards.

    A transition is complete when it holds `n_step` rewards or its session ends, whichever is first;
    so none reaches across a reset, and the last ones of a session are shorter (Sutton & Barto,
    section 7.1). With n_step=1 each step is one transition.

    Args:
        n_step: rewards of a complete transition.
        discount: gamma, in [0, 1].

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, n_step: int, discount: float) -> None:
        self.n_step = check_whole("n_step", n_step)
        self.discount = check_number("discount", discount, 0.0, 1.0)
        self._pending: list[dict[str, np.ndarray]] = []

    def _shape(self) -> tuple[int | str, ...]:
        """Of the next observation: as of those before."""
        return self._pending[0]["observation"].shape if self._pending else ("n", "size")

    def push(self, observation: np.ndarray, action: np.ndarray, step: Step) -> Batch:
        """Add one step of n sessions; returns the transitions that it completes.

        Args:
            observation: (n, observation_size), acted on.
            action: (n,) integers.
            step: what came back.

        Raises:
            TypeError: step is no `Step`.
            ValueError: an array of wrong shape or dtype, or not as many sessions as before.
        """
        check_kind("step", step, Step)
        count, size = check_array("observation", observation, self._shape()).shape
        check_integers("action", action, (count,), 2**31)
        check_array("reward", step.reward, (count,))
        check_array("next_observation", step.next_observation, (count, size))
        for name in ("terminated", "truncated", "valid"):
            check_array(name, getattr(step, name), (count,), "b")
        # The caller may write over his own arrays afterwards.
        return self._push(np.array(observation), np.array(action), Step(*map(np.array, step)))

    def _push(self, observation: np.ndarray, action: np.ndarray, step: Step) -> Batch:
        """`push` without the checks, of arrays that nobody writes to."""
        if self.n_step == 1:  # complete at once
            steps = np.ones(len(action))
            batch = Batch(
                observation, action, step.reward, step.next_observation, step.terminated, steps
            )
            return batch if step.valid.all() else Batch(*(column[step.valid] for column in batch))
        fresh = {
            "observation": observation,
            "action": action,
            "reward": np.zeros(len(action)),
            "steps": np.zeros(len(action)),
            "open": step.valid.copy(),
        }
        self._pending.append(fresh)
        ended = step.terminated | step.truncated
        parts = []
        for start in self._pending:
            start["reward"] += np.where(
                start["open"], self.discount ** start["steps"] * step.reward, 0
            )
            start["steps"] += 1
            rows = np.flatnonzero(start["open"] & (ended | (start["steps"] >= self.n_step)))
            start["open"][rows] = False
            parts.append(
                Batch(
                    start["observation"][rows],
                    start["action"][rows],
                    start["reward"][rows],
                    step.next_observation[rows],
                    step.terminated[rows],
                    start["steps"][rows],
                )
            )
        self._pending = [start for start in self._pending if start["open"].any()]
        return Batch(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def flush(self, observation: np.ndarray) -> list[Batch]:
        """Sessions are about to be given up: the transitions still open, as they stand, and empty.

        Their session did not end, so they are not terminated, and bootstrap from here.

        Args:
            observation: (n, observation_size), that would be acted on next.

        Returns:
            Batches of at most n transitions, one for each step that was open.

        Raises:
            ValueError: observation is of another shape than the ones before, or not finite.
        """
        check_array("observation", observation, self._shape())
        batches = []
        for start in self._pending:
            rows = np.flatnonzero(start["open"])
            batches.append(
                Batch(
                    start["observation"][rows],
                    start["action"][rows],
                    start["reward"][rows],
                    observation[rows],
                    np.zeros(len(rows), bool),
                    start["steps"][rows],
                )
            )
        self._pending = []
        return batches
