"""Speed of the Shop on one core (`make bench`); an error below a million pages a second."""

import os
import statistics
import sys
import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np

from dqnrec_lite import make_shop
from dqnrec_lite.encoding import HistoryEncoder

SESSIONS, STEPS, RUNS = 1024, 400, 9
REQUIRED = 1_000_000  # transitions a second


def rates(step: Callable[[int], object]) -> list[float]:
    """Transitions a second of each run; one more run before warms up."""
    found = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        for number in range(STEPS):
            step(number)
        found.append(SESSIONS * STEPS / (time.perf_counter() - start))
    return sorted(found[1:])


def report(name: str, found: list[float]) -> float:
    median = statistics.median(found)
    low, middle, high = (rate / 1e6 for rate in (found[0], median, found[-1]))
    print(f"{name:34s} {middle:7.2f} million/s   ({low:.2f} to {high:.2f})")
    return median


def main() -> int:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    items = rng.integers(0, 12, (STEPS, SESSIONS))
    events = rng.integers(0, 4, (STEPS, SESSIONS))
    pushes = rng.integers(0, 2, (STEPS, SESSIONS))

    shop = make_shop(SESSIONS)
    shop.reset(seed=0)
    encoder = HistoryEncoder(SESSIONS, 4, 3, 40)
    pole = gym.make_vec("CartPole-v1", num_envs=SESSIONS)
    pole.reset(seed=0)

    print(f"{SESSIONS:,} sessions, random actions, one core; median of {RUNS} runs and their range")
    measured = report("Shop", rates(lambda i: shop.step(items[i])))
    encoding = report(
        "  of which the encoder, by itself", rates(lambda i: encoder.update(items[i], events[i]))
    )
    report("CartPole-v1 (gymnasium.make_vec)", rates(lambda i: pole.step(pushes[i])))
    print(f"The encoder takes {measured / encoding:.0%} of the Shop's time.")
    if measured < REQUIRED:
        print(f"Too slow: {REQUIRED:,} transitions a second are required.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
