"""A study: methods run over seeds, one stored row for each run.

`rows` reads what is stored. `make_rows` makes rows, and can be stopped at any moment. `differences`
compares rows made anew with the stored ones. `python -m dqnrec_lite.studies` does all of it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

import dqnrec_lite
from dqnrec_lite.config import DQNConfig
from dqnrec_lite.curve import LearningCurve

Row = dict[str, Any]
Run = tuple[str, int]  # method, seed
ROWS = Path(__file__).with_name("rows")  # one file a study
SEEDS = range(1000, 1010)  # settings, rules and baselines were chosen on seeds 0 to 99
EXACT = 1e-6  # absolute; of figures that no training moves
STRAY = 4.0  # standard deviations; see `differences`


class Outcome(NamedTuple):
    """What one run gives."""

    seconds: float  # of training
    figures: dict[str, Any]
    curve: LearningCurve | None


@dataclass(frozen=True, kw_only=True)
class Study(ABC):
    """What is run, over which seeds, and how far a figure may move on another processor."""

    name: str
    methods: Mapping[str, Any]  # name -> what this kind of study needs to know of it
    seeds: Sequence[int] = SEEDS
    tolerance: float = 0.05  # share of a mean over all seeds
    exact: frozenset[str] = frozenset()  # methods that train nothing: the same on every processor

    @abstractmethod
    def settings(self, method: str, seed: int) -> dict[str, Any]:
        """What a run is made with, as the row stores it: JSON's types only."""

    @abstractmethod
    def run(self, method: str, seed: int) -> Outcome:
        """Train one method with one seed, and measure it."""

    def runs(self) -> list[Run]:
        """All methods with all seeds, in the order of the stored rows."""
        return [(method, seed) for method in self.methods for seed in self.seeds]

    def drawn(self, draw: int) -> list[Run]:
        """A tenth of each method's seeds, at least one, drawn by a generator of its own."""
        runs: list[Run] = []
        for method in self.methods:
            generator = random.Random(f"{draw}, {self.name}, {method}")
            chosen = generator.sample(list(self.seeds), math.ceil(len(self.seeds) / 10))
            runs += [(method, seed) for seed in sorted(chosen)]
        return runs


def settings_of(config: DQNConfig) -> dict[str, Any]:
    """A config's fields in JSON's types."""
    fields = asdict(config).items()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields}


def rows(study: str, method: str | None = None) -> list[Row]:
    """Stored rows of a study, by method and seed; copies, which the caller may change.

    A row holds `study`, `method`, `seed`, `config` (settings, a dict), `versions`, `seconds` (of
    training), `figures` (name -> number) and, for a DQN, `curve`: the columns of its
    `LearningCurve`, to four digits, None where nothing was measured.

    Args:
        study: name of a file in the folder `rows`, e.g. "shop", "cartpole"; or "peers_sb3", the
            rows that `make bench-peers` makes of Stable-Baselines3 beside ours.
        method: one of the study's; None: all.

    Raises:
        ValueError: there is no such study or method among the stored rows.
    """
    stored = sorted(path.stem for path in ROWS.glob("*.jsonl"))
    if study not in stored:
        raise ValueError(f"no stored rows of {study=}; there are {', '.join(stored)}")
    found = [row for row in _stored(stored_path(study)) if method in (None, row["method"])]
    if not found:
        methods = dict.fromkeys(row["method"] for row in _stored(stored_path(study)))
        raise ValueError(f"no stored rows of {study=}, {method=}; there are {', '.join(methods)}")
    return deepcopy(found)


def stored_path(study: str) -> Path:
    """The file of a study's rows."""
    return ROWS / f"{study}.jsonl"


@cache
def _stored(path: Path) -> list[Row]:
    return read_rows(path)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, one a line, in its order; none if there is no file.

    Raises:
        ValueError: a line is damaged; says which, and what to do.
    """
    found = []
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
        found.append(row)
    return found


def _check_row(row: Any) -> None:
    study, (method, seed) = row["study"], _run_of(row)
    parts = row["config"], row["versions"], row["figures"]
    right = isinstance(study, str) and isinstance(method, str) and isinstance(seed, int)
    if not right or not all(isinstance(part, dict) for part in parts):
        raise ValueError("a value is of another kind than in a row")


def _run_of(row: Row) -> Run:
    return row["method"], row["seed"]


def make_rows(study: Study, runs: Iterable[Run], partial: Path) -> list[Row]:
    """Make these runs, less those whose rows are in the file `partial` already; all their rows.

    Each row is on the disk before the next run begins. A row of other settings or versions than
    today's does not count, and is made again; so does one of another study.
    """
    runs, versions = list(runs), _versions()
    found = {
        _run_of(row): row
        for row in read_rows(partial)
        if row["study"] == study.name
        and row["method"] in study.methods
        and row["versions"] == versions
        and row["config"] == study.settings(*_run_of(row))
    }
    hidden = bool(os.environ.get("TQDM_DISABLE"))
    bar = tqdm(runs, desc=study.name, unit="row", disable=hidden, leave=False)
    with bar, open(partial, "a") as file:
        for method, seed in bar:
            if (method, seed) in found:
                continue
            bar.set_postfix_str(f"{method}, seed {seed}")
            settings, outcome = study.settings(method, seed), study.run(method, seed)
            row = {
                "study": study.name,
                "method": method,
                "seed": seed,
                "config": settings,
                "versions": versions,
                "seconds": round(outcome.seconds, 1),
                "figures": outcome.figures,
            }
            if outcome.curve is not None:
                row["curve"] = _rounded(outcome.curve)
            found[method, seed] = row
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())
    return [found[run] for run in runs]


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


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


def store(rows: Iterable[Row], path: Path) -> None:
    """Replace a file of rows at once, so that it is whole at every moment."""
    text, temporary = "".join(map(_line, rows)), path.with_suffix(".tmp")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _stored.cache_clear()


# Method, figure, and the seed; None where it is a mean over the seeds.
Where = tuple[str, str, int | None]


class Difference(NamedTuple):
    """A figure in the stored rows and in those made anew; NaN where there is none."""

    before: float
    now: float
    allowed: float

    @property
    def size(self) -> float:
        """As a multiple of what is allowed; infinite if only one side has the figure."""
        apart = abs(self.now - self.before)
        return math.inf if math.isnan(apart) else apart / self.allowed


def differences(study: Study, stored: list[Row], made: list[Row]) -> dict[Where, Difference]:
    """How far the figures of rows made anew are from the stored ones.

    Where nothing is trained each figure of each seed must come out again (`EXACT`). What is
    learnt depends on the processor: its last digits send the training on another path, as another
    seed would. So means are compared, over the seeds made anew, old against new, and allowed is ::

        tolerance * max(1, |mean|) + 4 s sqrt(2 (1/n - 1/N))

    The first term is the study's, and all that is allowed when every seed is made. The second is
    for chance: s is the figure's standard deviation over the N stored seeds, and the mean over n
    drawn ones strays from that over all N by s sqrt(1/n - 1/N), before and now. Four such
    deviations: among the stored rows no seed that stands in for another is further away.

    Lists of trained figures (returns on the way) are not compared. A figure that only one side has
    differs.

    Args:
        study: what the rows belong to.
        stored: all its stored rows.
        made: rows made anew, some or all.
    """
    before, after = ({_run_of(row): _numbers(row) for row in part} for part in (stored, made))
    found: dict[Where, Difference] = {}
    for method in dict.fromkeys(method for method, _ in after):
        seeds = [seed for name, seed in after if name == method]
        known = [figures for (name, _), figures in before.items() if name == method]
        pairs = {seed: (before.get((method, seed), {}), after[method, seed]) for seed in seeds}
        figures = dict.fromkeys(name for pair in pairs.values() for side in pair for name in side)
        for figure in figures:
            values = {
                seed: [side.get(figure, math.nan) for side in pair] for seed, pair in pairs.items()
            }
            if method in study.exact:
                for seed, (one, two) in values.items():
                    found[method, figure, seed] = Difference(one, two, EXACT)
            elif "[" not in figure:
                one, two = np.mean(list(values.values()), axis=0)
                every = [side[figure] for side in known if figure in side]
                share = max(0.0, 1 / len(seeds) - 1 / max(1, len(every)))
                chance = np.std(every, ddof=1) * math.sqrt(2 * share) if share else 0.0
                allowed = study.tolerance * max(1.0, abs(one)) + STRAY * chance
                found[method, figure, None] = Difference(float(one), float(two), float(allowed))
    return found


def _numbers(row: Row) -> dict[str, float]:
    """A row's figures, the lists among them number by number."""
    numbers: dict[str, float] = {}
    for name, value in row["figures"].items():
        if isinstance(value, list):
            numbers |= {f"{name}[{index}]": x for index, x in enumerate(value)}
        else:
            numbers[name] = value
    return numbers


def told(study: Study, where: Where, difference: Difference) -> str:
    """A difference as a sentence."""
    method, figure, seed = where
    place = f"{study.name}, {method}" + ("" if seed is None else f", seed {seed}") + f", {figure}"
    before, now = (
        "missing" if math.isnan(value) else f"{value:.6g}"
        for value in (difference.before, difference.now)
    )
    return f"{place}: {before} before, {now} now, {difference.size:.2g} of what is allowed"


def equal_bits(one: Row, other: Row) -> bool:
    """Whether two rows hold the same figures and the same curve, digit by digit."""
    return all(one.get(part) == other.get(part) for part in ("figures", "curve"))
