"""What measurements store as JSON: on which day, on what machine, with which versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


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
