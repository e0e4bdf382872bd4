"""The long studies behind the book's figures, stored as data with the package.

`make experiments` makes all rows again (most of an hour on two cores). It can be stopped at any
moment and goes on where it was: finished rows wait in a partial file beside the stored one. `make
verify` makes them again too, keeps the stored ones, and fails if they differ. What is run is in
`studies`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import dqnrec_lite
from dqnrec_lite._checks import check_kind, check_path
from dqnrec_lite.curve import LearningCurve
from dqnrec_lite.progress import progress_bar
from dqnrec_lite.standard import TASKS
from dqnrec_lite.studies import STUDIES, UNTRAINED, Outcome, run, seeds_of, settings

Row = dict[str, Any]
Task = tuple[str, str, int]  # study, method, seed
STORED = Path(__file__).with_name("experiments.jsonl")
PEERS = Path(__file__).with_name(
    "peers_sb3.jsonl"
)  # Stable-Baselines3 beside ours: make bench-peers
# What `make verify` allows. On another processor training takes another path: of what is learnt,
# the means over the seeds must agree, to this share or absolutely; the rest must be the same.
# On a standard task a single seed can fail altogether, so there the share is larger.
TOLERANCE, STANDARD_TOLERANCE, EXACT = 0.05, 0.25, 1e-6


def experiment_rows(study: str, method: str | None = None) -> list[Row]:
    """Stored rows of a study, by method and seed.

    A row holds `study`, `method`, `seed`, `config` (settings, a dict), `versions`, `seconds` (of
    training), `figures` (name -> number) and, for a DQN, `curve`: the columns of its
    `LearningCurve`, to four digits, None where nothing was measured.

    Args:
        study: one of `STUDIES`, e.g. "shop" or "cartpole".
        method: one of `STUDIES[study]`; None: all.

    Raises:
        TypeError: study or method is no string.
        ValueError: there is no such study or method among the stored rows.
    """
    check_kind("study", study, str)
    check_kind("method", method, str, type(None))
    rows = [row for row in read_rows(STORED) if row["study"] == study]
    if method is not None:
        rows = [row for row in rows if row["method"] == method]
    if not rows:
        raise ValueError(f"no stored rows of {study=}, {method=}; the studies are {STUDIES}")
    return rows


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, one a line, in its order; none if there is no file.

    Raises:
        ValueError: a line is damaged; says which, and what to do.
    """
    rows, path = [], check_path("path", path)
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            _check_row(row)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: damaged ({error!r}); delete this line and run again: its "
                "row is then made anew"
            ) from error
        rows.append(row)
    return rows


def make_rows(
    tasks: Iterable[Task],
    partial: Path,
    run: Callable[..., Outcome] = run,
    settings: Callable[..., dict[str, Any]] = settings,
) -> list[Row]:
    """Run all tasks, less those whose rows are in the file `partial` already; all their rows.

    Each row is on the disk before the next task begins. A row of other settings or versions than
    today's does not count, and is made again.
    """
    tasks, versions = list(tasks), _versions()
    found = {
        _task(row): row
        for row in read_rows(partial)
        if row["versions"] == versions and row["config"] == settings(*_task(row))
    }
    with progress_bar(tasks, unit="row") as bar, open(partial, "a") as file:
        for task in bar:
            if task in found:
                continue
            bar.set_postfix_str(" ".join(map(str, task)))
            outcome = run(*task)
            found[task] = {
                **dict(zip(("study", "method", "seed"), task, strict=True)),
                "config": settings(*task),
                "versions": versions,
                "seconds": round(outcome.seconds, 1),
                "figures": outcome.figures,
            }
            if outcome.curve is not None:
                found[task]["curve"] = _rounded(outcome.curve)
            file.write(json.dumps(found[task], allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    return [found[task] for task in tasks]


def store(rows: list[Row], path: Path) -> None:
    """Replace the stored file at once, so that it is whole at every moment."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w") as file:
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def differences(old: list[Row], new: list[Row]) -> list[tuple[float, str]]:
    """How far figures are apart, as multiples of what `make verify` allows, the largest first.

    Each with a sentence that says where. Rows and figures that only one side has are not compared.
    """
    figures: dict[str, list[tuple[float, float]]] = {}
    before = {_task(row): row["figures"] for row in old}
    for row in new:
        study, method, seed = _task(row)
        of_seed = f", seed {seed}" if method in UNTRAINED else ""
        for name, value in row["figures"].items():
            if name in before.get(_task(row), {}) and np.ndim(value) == 0:
                pair = before[_task(row)][name], value
                figures.setdefault(f"{study}, {method}{of_seed}, {name}", []).append(pair)
    found = []
    for where, pairs in figures.items():
        one, two = np.mean(pairs, axis=0)
        share = STANDARD_TOLERANCE if where.split(", ")[0] in TASKS else TOLERANCE
        allowed = EXACT if ", seed " in where else share * max(1.0, abs(one))
        found.append((abs(two - one) / allowed, f"{where}: {one:.6g} before, {two:.6g} now"))
    return sorted(found, reverse=True)


def _task(row: Row) -> Task:
    return row["study"], row["method"], row["seed"]


def _check_row(row: Any) -> None:
    study, method, seed = _task(row)
    parts = row["config"], row["versions"], row["figures"]
    right = isinstance(study, str) and isinstance(method, str) and isinstance(seed, int)
    if not right or not all(isinstance(part, dict) for part in parts):
        raise ValueError("a value is of another kind than in a row")


def _versions() -> dict[str, str]:
    others = {name: version(name) for name in ("numpy", "tensorflow", "keras")}
    return {"python": platform.python_version(), **others, "dqnrec_lite": dqnrec_lite.__version__}


def _rounded(curve: LearningCurve) -> dict[str, list[float | None]]:
    """Columns of a curve for JSON: four digits, transitions whole, None for NaN."""
    columns: dict[str, list[float | None]] = {
        name: [None if math.isnan(x) else float(f"{x:.4g}") for x in column]
        for name, column in curve._asdict().items()
    }
    columns["transitions"] = [int(x) for x in curve.transitions]
    return columns


def main(arguments: list[str] | None = None) -> int:
    """`python -m dqnrec_lite.experiments [--check] [study ...]`; the exit status."""
    parser = argparse.ArgumentParser(prog="dqnrec_lite.experiments", description=__doc__)
    parser.add_argument("study", nargs="*", help=f"some of {', '.join(STUDIES)}; none: all")
    parser.add_argument("--check", action="store_true", help="compare, and keep the stored rows")
    options = parser.parse_args(arguments)
    if unknown := set(options.study) - set(STUDIES):
        parser.error(f"no such study: {', '.join(sorted(unknown))}")
    chosen = options.study or list(STUDIES)
    tasks = [(s, method, seed) for s in chosen for method in STUDIES[s] for seed in seeds_of(s)]
    partial = STORED.with_suffix(".check.partial" if options.check else ".partial")
    try:
        rows = make_rows(tasks, partial)
    except KeyboardInterrupt:
        print(f"\nStopped. What is done is in {partial.name}; the same command goes on from there.")
        return 130
    old = read_rows(STORED)
    apart = differences(old, rows)
    if apart:
        print(f"Largest difference, {apart[0][0]:.2g} of what is allowed: {apart[0][1]}")
    if options.check:
        wrong = [where for size, where in apart if size > 1]
        print(*wrong, sep="\n")
        print(f"{len(apart)} figures compared, {len(wrong)} differ by more than is allowed.")
    else:
        wrong = []
        kept = [row for row in old if row["study"] not in chosen]
        store(sorted(kept + rows, key=lambda row: list(STUDIES).index(row["study"])), STORED)
        print(f"{STORED.name}: {len(rows)} rows made anew.")
    others = [row for row in read_rows(partial) if row["study"] not in chosen]
    if others:  # a study that was stopped still waits
        store(others, partial)
    else:
        partial.unlink()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
