"""What all measurements share: rounds in turn, and the file that keeps them."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))
from stored import ROOT, machine, short, versions, write

__all__ = ["ROOT", "in_turn", "machine", "short", "spread", "timed", "versions", "write"]


def timed(work: Callable[[], object], each: int = 1, seconds: float = 0.0) -> float:
    """Things a second; a call of `work` does `each` of them, and is repeated for `seconds`."""
    start, calls, passed = time.perf_counter(), 0, 0.0
    while not calls or passed < seconds:
        work()
        calls, passed = calls + 1, time.perf_counter() - start
    return calls * each / passed


def in_turn(
    works: Sequence[Callable[[], Mapping[str, float]]], rounds: int
) -> dict[str, list[float]]:
    """Rates of several works, one after the other in each round, so that drift hits all alike.

    Args:
        works: what to measure; each returns name -> things a second.
        rounds: how often each is measured; one round more comes before, to warm up.

    Returns:
        name -> things a second, one for each round.
    """
    rates: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for work in works:
            for name, rate in work().items():
                rates.setdefault(name, [])
                rates[name] += [rate] if number else []
    return rates


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}
