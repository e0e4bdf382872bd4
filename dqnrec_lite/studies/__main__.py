"""Make the long studies' rows anew, or compare some made anew with the stored ones.

    python -m dqnrec_lite.studies make [study ...]
    python -m dqnrec_lite.studies verify [--draw SEED | --all] [study ...]

Both can be stopped at any moment, and the same command goes on where it was: finished rows wait in
partial files beside the stored ones.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dqnrec_lite import seed_everything
from dqnrec_lite.studies import all_studies
from dqnrec_lite.studies.study import (
    Difference,
    Row,
    Run,
    Study,
    Where,
    differences,
    equal_bits,
    make_rows,
    read_rows,
    store,
    stored_path,
    told,
)


def make(chosen: list[Study]) -> int:
    """Make all rows of some studies; each file is replaced when its study is done."""
    for study in chosen:
        path, made = stored_path(study.name), _made(study, study.runs(), "make")
        if path.exists():
            _tell_furthest(study, differences(study, read_rows(path), made))
        store(made, path)
        print(f"{path.name}: {len(made)} rows made anew.")
    _forget(chosen, "make")
    return 0


def verify(chosen: list[Study], draw: int | None) -> int:
    """Make a drawn tenth of the rows (`draw` None: all) and compare them; 1 if they differ."""
    runs = {study.name: study.runs() if draw is None else study.drawn(draw) for study in chosen}
    count, total = sum(map(len, runs.values())), sum(len(study.runs()) for study in chosen)
    print(f"Making {count} of {total} stored rows anew", end="")
    if draw is not None:
        print(f": a tenth of each method's, drawn by DRAW={draw}. All of them: ALL=1", end="")
    print(".\nOut of reach: peers_sb3, another library's rows; make bench-peers makes those.")
    compared, unequal, wrong = 0, [], []
    for study in chosen:
        stored = read_rows(stored_path(study.name))
        made = _made(study, runs[study.name], "verify")
        found = differences(study, stored, made)
        _tell_furthest(study, found)
        compared += len(found)
        unequal += _unequal(study, stored, made)
        wrong += _out_of_date(study, stored)
        wrong += [told(study, where, x) for where, x in found.items() if x.size > 1]
    print(f"{count - len(unequal)} of {count} rows are equal in every digit, figures and curve.")
    if unequal:
        print("Not equal, as all are on the machine that stored them:", *unequal, sep="\n  ")
    if wrong:
        print("Wrong:", *wrong, sep="\n  ")
    print(f"{compared} figures compared; beyond what another processor changes: {len(wrong)}.")
    _forget(chosen, "verify")
    return 1 if wrong else 0


def _made(study: Study, runs: list[Run], task: str) -> list[Row]:
    partial = _partial(study, task)
    if partial.exists():
        print(f"{study.name}: going on from {partial.name}; delete it to begin anew.")
    return make_rows(study, runs, partial)


def _partial(study: Study, task: str) -> Path:
    """Where finished rows wait for the others."""
    return stored_path(study.name).with_suffix(f".{task}.partial")


def _forget(chosen: list[Study], task: str) -> None:
    for study in chosen:
        _partial(study, task).unlink()


def _tell_furthest(study: Study, found: dict[Where, Difference]) -> None:
    where = max(found, key=lambda where: found[where].size)
    if found[where].size:
        print(f"Furthest apart: {told(study, where, found[where])}.")


def _unequal(study: Study, stored: list[Row], made: list[Row]) -> list[str]:
    """Rows made anew that are not the stored ones, digit by digit."""
    before = {(row["method"], row["seed"]): row for row in stored}
    return [
        f"{study.name}, {row['method']}, seed {row['seed']}"
        for row in made
        if not equal_bits(before.get((row["method"], row["seed"]), {}), row)
    ]


def _out_of_date(study: Study, stored: list[Row]) -> list[str]:
    """Stored rows that are not today's: other methods, seeds or settings."""
    found = [(row["method"], row["seed"]) for row in stored]
    wrong = [] if found == study.runs() else [f"{study.name}: other rows are stored than it has"]
    return wrong + [
        f"{study.name}, {row['method']}, seed {row['seed']}: stored with other settings"
        for row in stored
        if row["method"] in study.methods
        and row["config"] != study.settings(row["method"], row["seed"])
    ]


def main(arguments: list[str] | None = None) -> int:
    """`python -m dqnrec_lite.studies ...`; the exit status."""
    studies = all_studies()
    parser = argparse.ArgumentParser(prog="dqnrec_lite.studies", description=__doc__)
    parser.add_argument("task", choices=("make", "verify"))
    parser.add_argument("study", nargs="*", help=f"some of {', '.join(studies)}; none: all")
    parser.add_argument("--draw", type=int, default=0, help="which tenth to verify; 0")
    parser.add_argument("--all", action="store_true", help="verify all rows")
    options = parser.parse_intermixed_args(arguments)  # verify --all shop
    if unknown := set(options.study) - set(studies):
        parser.error(f"no such study: {', '.join(sorted(unknown))}")
    stored = [name for name in studies if stored_path(name).exists()]
    asked = options.study or (stored if options.task == "verify" else studies)
    if unmade := set(asked) - set(stored) if options.task == "verify" else set():
        parser.error(f"no rows are stored yet of {', '.join(sorted(unmade))}: make them first")
    chosen = [studies[name] for name in dict.fromkeys(asked)]
    seed_everything(0)
    try:
        if options.task == "make":
            return make(chosen)
        return verify(chosen, None if options.all else options.draw)
    except KeyboardInterrupt:
        print(
            "\nStopped. What is done waits in partial files; the same command goes on from there."
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
