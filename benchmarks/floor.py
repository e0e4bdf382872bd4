"""The floor under a DQN's update and action: NumPy doing the arithmetic and nothing else.

No replay, no optimiser, no target sync, no checks. `products` keeps only the matrix products of the
same passes: what it takes is the BLAS library's time.

    python floor.py 4,120,84,2 128 8

prints the rates for these layers, a minibatch of 128 and 8 observations to act on. It has a process
of its own: beside TensorFlow's threads those of the BLAS library may take ten times as long.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from measuring import timed

Layers = list[tuple[np.ndarray, np.ndarray]]  # (inputs, units) kernel and (units,) bias


NUMPY, BLAS = "NumPy floor", "BLAS products"
SECONDS = 0.1  # for each work in one process


class Minibatch(NamedTuple):
    """Random transitions of the right shapes; n of them."""

    observation: np.ndarray  # (n, observation_size) float32
    action: np.ndarray  # (n,) int64
    reward: np.ndarray  # (n,) float32
    next_observation: np.ndarray  # (n, observation_size) float32
    terminated: np.ndarray  # (n,) float32


def random_layers(sizes: Sequence[int], seed: int) -> Layers:
    """Kernels and biases for `sizes`: observation, hidden layers, actions."""
    rng = np.random.default_rng(seed)
    return [
        (
            rng.uniform(-1, 1, (inputs, units)).astype(np.float32) * (3 / inputs) ** 0.5,
            rng.uniform(-0.1, 0.1, units).astype(np.float32),
        )
        for inputs, units in pairwise(sizes)
    ]


def random_minibatch(batch_size: int, sizes: Sequence[int], seed: int) -> Minibatch:
    rng = np.random.default_rng(seed)
    return Minibatch(
        rng.normal(size=(batch_size, sizes[0])).astype(np.float32),
        rng.integers(0, sizes[-1], batch_size),
        rng.normal(size=batch_size).astype(np.float32),
        rng.normal(size=(batch_size, sizes[0])).astype(np.float32),
        rng.integers(0, 2, batch_size).astype(np.float32),
    )


def forward(layers: Layers, observation: np.ndarray) -> list[np.ndarray]:
    """The inputs of each layer, and q at the end."""
    passed = [observation]
    for kernel, bias in layers[:-1]:
        hidden = passed[-1] @ kernel
        hidden += bias
        passed.append(np.maximum(hidden, 0, out=hidden))
    kernel, bias = layers[-1]
    passed.append(passed[-1] @ kernel + bias)
    return passed


def gradient(
    online: Layers, target: Layers, batch: Minibatch, discount: float, double: bool
) -> list[np.ndarray]:
    """Gradient of mean 0.5 * (target - q(s, a))^2 by each kernel and bias, in the layers' order.

    DQN passes forward twice (target network at s', online network at s) and backward once; Double
    DQN passes the online network forward at s' too.
    """
    rows = np.arange(len(batch.action))
    next_q = forward(target, batch.next_observation)[-1]
    if double:
        best = forward(online, batch.next_observation)[-1].argmax(axis=1)
        next_value = next_q[rows, best]
    else:
        next_value = next_q.max(axis=1)
    passed = forward(online, batch.observation)
    goal = batch.reward + np.float32(discount) * (1 - batch.terminated) * next_value
    slope = np.zeros_like(passed[-1])
    slope[rows, batch.action] = (passed[-1][rows, batch.action] - goal) / np.float32(len(rows))
    gradients: list[np.ndarray] = []
    for i in reversed(range(len(online))):
        gradients += [slope.sum(axis=0), passed[i].T @ slope]
        if i:
            slope = slope @ online[i][0].T
            slope *= passed[i] > 0
    return gradients[::-1]


def products(sizes: Sequence[int], batch_size: int, double: bool) -> Callable[[], None]:
    """A function that does the matrix products of one `gradient`, into arrays made beforehand."""
    layers = random_layers(sizes, seed=0)
    inputs = [np.ones((batch_size, units), np.float32) for units in sizes]
    slopes = [np.ones((batch_size, units), np.float32) for units in sizes]
    kernel_slopes = [np.empty_like(kernel) for kernel, _ in layers]

    def run() -> None:
        for _ in range(3 if double else 2):
            for i, (kernel, _) in enumerate(layers):
                np.matmul(inputs[i], kernel, out=slopes[i + 1])
        for i in reversed(range(len(layers))):
            np.matmul(inputs[i].T, slopes[i + 1], out=kernel_slopes[i])
            if i:  # nobody asks for the slope by the observation
                np.matmul(slopes[i + 1], layers[i][0].T, out=slopes[i])

    return run


def greedy(layers: Layers, observation: np.ndarray) -> np.ndarray:
    return forward(layers, observation)[-1].argmax(axis=1)


def works(sizes: Sequence[int], batch_size: int, sessions: int) -> dict[str, Callable[[], object]]:
    """All that is measured, by name."""
    online, target = random_layers(sizes, seed=0), random_layers(sizes, seed=1)
    batch = random_minibatch(batch_size, sizes, seed=0)
    found: dict[str, Callable[[], object]] = {
        f"{NUMPY}, acting": partial(greedy, online, batch.observation[:sessions])
    }
    for name, double in {"DQN": False, "Double DQN": True}.items():
        found[f"{NUMPY}, {name}"] = partial(gradient, online, target, batch, 0.99, double)
        found[f"{BLAS}, {name}"] = products(sizes, batch_size, double)
    return found


def rates(sizes: Sequence[int], batch_size: int, sessions: int, threads: int) -> dict[str, float]:
    """Things a second, by the names of `works`, from a new process with so many BLAS threads.

    OpenBLAS chooses its kernels there, whatever the shell says: with older ones the floor would be
    no floor.
    """
    told = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    told |= {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    numbers = [",".join(map(str, sizes)), str(batch_size), str(sessions)]
    command = [sys.executable, __file__, *numbers]
    printed = subprocess.run(command, env=told, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(printed.stdout)


def main() -> None:
    sizes = [int(units) for units in sys.argv[1].split(",")]
    found = {}
    for name, work in works(sizes, *map(int, sys.argv[2:])).items():
        for seconds in (SECONDS / 5, SECONDS):  # the first warms up
            found[name] = timed(work, seconds=seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
