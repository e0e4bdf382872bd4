"""What all measurements share: rounds in turn, the machine, the table, the file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


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


def short(number: float) -> str:
    """Two digits that count, for more do not last: 0.68, 2.5, 26, 260, 4,300."""
    rounded = float(f"{number:.2g}")
    return f"{rounded:.2g}" if rounded < 1 else f"{rounded:,.{1 if rounded < 10 else 0}f}"


def machine() -> dict[str, Any]:
    """The processor and the system, without the machine's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Store as JSON, with the date and the machine in front."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"date": datetime.now(UTC).date().isoformat(), "machine": machine()}
    path.write_text(json.dumps(head | dict(content), indent=1) + "\n")
