"""Prioritised replay: what surprised is drawn more often (Schaul et al., arXiv:1511.05952).

A `DQN` uses it if `DQNConfig.prioritised` is set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dqnrec_lite._checks import check_array, check_number
from dqnrec_lite.replay import Batch, ReplayBuffer

FLOOR = 1e-3  # added to each |TD error|, so that whatever is stored can be drawn again
BETA = 0.4  # of the importance weights at the start of a training call; 1 at its end


class SumTree:
    """Numbers of which one is drawn in proportion to its size, both in log2(size) passes.

    An array of 2 * leaves numbers: node i is the sum of nodes 2 i and 2 i + 1, and the leaves,
    which hold the numbers themselves, are its second half. Node 1 is the sum of all.

    Args:
        size: how many numbers, 0 at first.
    """

    def __init__(self, size: int) -> None:
        self.leaves = 1 << (size - 1).bit_length()
        self.nodes = np.zeros(2 * self.leaves)

    def __getitem__(self, where: np.ndarray) -> np.ndarray:
        return self.nodes[self.leaves + where]

    @property
    def total(self) -> float:
        """The sum of all numbers."""
        return float(self.nodes[1])

    def set(self, where: np.ndarray, values: np.ndarray) -> None:
        """Put `values` at the places `where`, both (m,); of a place named twice the last counts."""
        node = self.leaves + where
        self.nodes[node] = values
        while node.size and node[0] > 1:
            node = node // 2
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def find(self, mass: np.ndarray) -> np.ndarray:
        """The place at which the running sum passes `mass`, each in [0, total)."""
        node = np.ones(mass.shape, np.int64)
        while node.size and node.flat[0] < self.leaves:
            node = 2 * node  # the left one
            left = self.nodes[node]
            # By rounding the mass may pass the last number above 0: nothing is drawn beyond it.
            right = (mass >= left) & (self.nodes[node + 1] > 0)
            mass = np.where(right, mass - left, mass)
            node = node + right
        return node - self.leaves


class PrioritisedReplay(ReplayBuffer):
    """A replay buffer that draws transition i with the chance p_i^alpha / sum_k p_k^alpha.

    p is the size of the TD error plus `FLOOR`, as it was when the transition was last learnt from;
    a new one gets the largest p so far, so that it is soon learnt from (section 3.3, proportional).

    Args:
        capacity: how many transitions are kept.
        like: one transition; see `ReplayBuffer`.
        alpha: 0 draws uniformly; the paper takes 0.6.

    Attributes:
        tree: p^alpha of each stored transition.
        largest: the largest p so far.
    """

    def __init__(self, capacity: int, like: Batch, alpha: float) -> None:
        super().__init__(capacity, like)
        self.alpha = check_number("alpha", alpha, 0.0, 1.0)
        self.tree = SumTree(capacity)
        self.largest = 1.0

    def add(self, batch: Batch) -> None:
        """Store m transitions, as `ReplayBuffer.add` does, with the largest priority so far."""
        where = (self.position + np.arange(len(batch.action))) % self.capacity
        super().add(batch)
        self.tree.set(where, np.full(len(where), self.largest**self.alpha))

    def sample(
        self, shape: int | tuple[int, ...], rng: np.random.Generator, beta: float = 1.0
    ) -> Batch:
        """Transitions drawn by their priority, with replacement, and how to make up for it.

        `weight` is (N P(i))^-beta (section 3.4), N transitions stored, P(i) the chance of i. With
        beta=1 a weighted mean over draws has the expectation of a plain mean over all that is
        stored, and the weights are 1 on average. The paper also divides by the largest of them.

        Args:
            shape: leading shape of the result, e.g. (updates, batch_size).
            rng: NumPy generator; the same state gives the same sample.
            beta: how far the weights make up for the unequal chances, 0 to 1.

        Returns:
            A batch with `weight` and `serial`.

        Raises:
            ValueError: the buffer is empty, or beta is out of range.
        """
        self.check_not_empty()
        check_number("beta", beta, 0.0, 1.0)
        where = self.tree.find(rng.random(shape) * self.tree.total)
        weight = (self.size * self.tree[where] / self.tree.total) ** -beta
        serial = where + self.capacity * ((self.added - 1 - where) // self.capacity)
        batch = self.data.apply(lambda kept: kept[where])
        return batch._replace(weight=weight.astype(np.float32), serial=serial)

    def update_priorities(self, serial: np.ndarray, td_error: Any) -> None:
        """Tell what the transitions that were drawn have surprised by.

        What has been overwritten since then is passed over. Of one drawn twice the later counts.

        Args:
            serial: (...) as `sample` gave it.
            td_error: (...) floats, target - q(s, a).

        Raises:
            ValueError: shapes differ, or something is not finite.
        """
        serial = np.asarray(serial)
        p = np.abs(check_array("td_error", td_error, serial.shape)).astype(float) + FLOOR
        there = serial >= self.added - self.size
        self.tree.set(serial[there] % self.capacity, p[there] ** self.alpha)
        self.largest = max(self.largest, float(p.max(initial=0.0)))
