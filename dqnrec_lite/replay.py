"""Replay buffer: the agent's memory of transitions, a ring on preallocated arrays.

Lin (Machine Learning 8, 1992) introduced experience replay; Mnih et al. (Nature 518, 2015) sample
it uniformly. Sampling at random breaks the correlation between neighbouring transitions, and lets
each be used more than once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dqnrec_lite._checks import check_array, check_flags, check_kind, check_mask, check_whole


class Batch(NamedTuple):
    """Transitions; every array has the same leading shape, written (...) here."""

    observation: np.ndarray  # (..., observation_size) float32
    action: np.ndarray  # (...) int32
    reward: np.ndarray  # (...) float32, the n-step sum where n_step > 1
    next_observation: np.ndarray  # (..., observation_size) float32
    terminated: np.ndarray  # (...) float32: 1.0 where the session really ended
    steps: np.ndarray  # (...) float32: how many rewards `reward` holds, 1 to n_step
    next_action_mask: np.ndarray | None = None  # (..., actions) bool; None: all are allowed
    # Of prioritised sampling, not stored:
    weight: np.ndarray | None = None  # (...) float32, importance in the loss; None: all count 1
    serial: np.ndarray | None = None  # (...) int64, how many were stored before it

    def apply(self, function: Callable[[Any], Any]) -> Batch:
        """The same function of each array that is there."""
        there = {name: array for name, array in self._asdict().items() if array is not None}
        return Batch(**{name: function(array) for name, array in there.items()})


def blank_transition(observation_size: int) -> Batch:
    """One transition of zeros, of the shapes and types that a `DQN` stores."""
    observation, action = np.zeros(observation_size, np.float32), np.zeros((), np.int32)
    number = np.zeros((), np.float32)
    return Batch(observation, action, number, observation, number, number)


class ReplayBuffer:
    """The last `capacity` transitions; old ones are overwritten first.

    Args:
        capacity: how many transitions are kept.
        like: one transition, leading shape (), whose fields, shapes and dtypes the buffer takes. It
            is not stored. A column for masks is made when the first batch comes that has one;
            where a batch has none, all actions count as allowed.

    Raises:
        ValueError: capacity is below 1.
        MemoryError: it does not fit into memory; says how much it needs.
    """

    def __init__(self, capacity: int, like: Batch) -> None:
        self.capacity = capacity = check_whole("capacity", capacity)
        check_kind("like", like, Batch)
        try:
            self.data = like.apply(lambda one: np.zeros((capacity, *one.shape), one.dtype))
        except (MemoryError, ValueError) as error:
            each = sum(np.asarray(one).nbytes for one in like if one is not None)
            raise MemoryError(
                f"capacity={capacity} transitions of {each} bytes each, {capacity * each / 1e9:.3g}"
                " GB, do not fit into memory"
            ) from error
        self.added = 0  # transitions, ever

    def __len__(self) -> int:
        return self.size

    @property
    def position(self) -> int:
        """Where the next transition goes."""
        return self.added % self.capacity

    @property
    def size(self) -> int:
        """How many are stored."""
        return min(self.added, self.capacity)

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays."""
        return sum(array.nbytes for array in self.data if array is not None)

    def add(self, batch: Batch) -> None:
        """Store m transitions. All are checked before any is written.

        Raises:
            TypeError: no Batch.
            ValueError: arrays of unlike length or shape, NaN or infinite numbers, terminated
                neither 0 nor 1, steps below 1, a mask that allows nothing where the session goes
                on, or more transitions than the buffer holds.
        """
        check_kind("batch", batch, Batch)
        arrays, mask = batch[:6], batch.next_action_mask
        columns, masks = self.data[:6], self.data.next_action_mask
        count = len(check_array("action", batch.action, kinds="iu"))
        if count > self.capacity:
            raise ValueError(f"batch of {count} transitions: the buffer holds {self.capacity}")
        for name, array, column in zip(Batch._fields, arrays, columns, strict=False):
            check_array(name, array, (count, *column.shape[1:]))
        check_flags("terminated", batch.terminated)
        if count and np.min(batch.steps) < 1:
            raise ValueError(f"steps: at least 1 expected, got {np.min(batch.steps)}")
        if mask is not None:
            shape = count, ("actions" if masks is None else masks.shape[1])
            goes_on = np.asarray(batch.terminated) == 0  # elsewhere nothing is asked of the mask
            mask = check_mask("next_action_mask", mask, shape, goes_on)
            self.keep_masks(mask.shape[1])
        where = (self.position + np.arange(count)) % self.capacity
        for array, column in zip(arrays, columns, strict=True):
            column[where] = array
        if self.data.next_action_mask is not None:
            self.data.next_action_mask[where] = True if mask is None else mask
        self.added += count

    def keep_masks(self, actions: int) -> None:
        """Make the column of masks, unless it is there; what is stored so far allows all."""
        if self.data.next_action_mask is None:
            all_allowed = np.ones((self.capacity, actions), bool)
            self.data = self.data._replace(next_action_mask=all_allowed)

    def sample(self, shape: int | tuple[int, ...], rng: np.random.Generator) -> Batch:
        """Transitions drawn uniformly, with replacement.

        Args:
            shape: leading shape of the result, e.g. (updates, batch_size).
            rng: NumPy generator; the same state gives the same sample.

        Raises:
            ValueError: the buffer is empty.
        """
        self.check_not_empty()
        where = rng.integers(0, self.size, shape)
        return self.data.apply(lambda kept: kept[where])

    def check_not_empty(self) -> None:
        """A ValueError if nothing is stored."""
        if self.added == 0:
            raise ValueError("sample: the buffer is empty")
