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

ROOT = Path(__file__).resolve().parents[2]


def in_turn(works: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Rates of several works, one after the other in each round, so that drift hits all alike.

    Args:
        works: name -> what to do; each returns how many things it has done.
        rounds: how often each is measured; one round more comes before, to warm up.

    Returns:
        name -> things a second, one for each round.
    """
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            done = work()
            rates[name].append(done / (time.perf_counter() - start))
    return {name: found[1:] for name, found in rates.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


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
