"""Plant small faults in the package, one at a time, and see whether the unit tests notice.

Two samples. The *chosen* faults of `tests/faults.toml` are those that people make: a target from
the wrong state, an end mistaken for a limit, a copy left out. The *drawn* ones come from a seeded
generator, three in each module, so that nobody has picked what the tests can see: an operator
exchanged, a number moved, a condition turned round, a copy turned into a view.

The unit part is every `tests/test_*.py` but those of book, browser and notebooks. For each fault it
runs in a copy of the tree, the tests of that module first, and stops at the first failure. A run
that says nothing for four minutes hangs, and counts as caught. The same command goes on where it
was stopped. A fault once caught counts as long as its module and the tests that failed are as they
were; a survivor, as long as the whole package and all tests are.

    python tools/mutants.py [--jobs 2] [--minutes 10] [module ...]
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import importlib.util
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, TABLE = "dqnrec_lite", ROOT / "tests" / "faults.toml"
ROWS, STORED = ROOT / "_build" / "mutants.jsonl", ROOT / "book" / "mutants.json"
NO_UNIT_TESTS = ("book", "browser", "notebooks", "mutants")
# Which tests look at a module first, where the name does not tell; and the slow ones, last.
FIRST = {
    "checkpoint": "training agent",
    "checks": "hostile",
    "config": "agent",
    "curve": "training agent",
    "learners": "baselines",
    "training": "training sessions agent",
}
LAST = [  # quick ones before slow ones
    "hostile", "oracle", "evaluation", "baselines", "sessions", "learning", "random_mdps",
    "experiments", "agent", "training",
]  # fmt: skip
DRAWN, SILENCE, WANTED = 3, 240.0, 0.9  # faults a module; seconds; share caught


STOP = threading.Event()  # set by Ctrl+C


class Fault(NamedTuple):
    """A module, what is wrong with it now, and its text."""

    kind: str  # "chosen" or "drawn"; "none": nothing is wrong
    module: str
    what: str
    source: str


# --- Faults ---------------------------------------------------------------------------------------


def table() -> dict[str, dict[str, list[list[str]]]]:
    """`tests/faults.toml`: by module, chosen `faults` and drawn ones that are the `same`."""
    return tomllib.loads(TABLE.read_text())


def source_of(module: str) -> str:
    return (ROOT / PACKAGE / f"{module}.py").read_text()


def chosen_faults(module: str) -> list[Fault]:
    """Those of the table; a ValueError where the right text does not stand exactly once."""
    source, faults = source_of(module), []
    for what, old, new in table()[module]["faults"]:
        if source.count(old) != 1 or old == new:
            raise ValueError(f"{module}: {source.count(old)} times, not once: {old!r} ({what})")
        faults.append(Fault("chosen", module, what, source.replace(old, new)))
    return faults


SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mod, ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or,
    ast.Or: ast.And, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
NAMES = {"max": "min", "argmax": "argmin", "any": "all", "zeros": "ones", "minimum": "maximum"}
NAMES |= {new: old for old, new in NAMES.items()}
ALIASES = {"copy": "view", "array": "asarray"}  # the caller's array itself, and no longer a copy


def places(node: ast.AST) -> Iterator[ast.AST]:
    """Every part of a module that can be wrong; no types and no words of a message."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            said = name in ("annotation", "returns") or isinstance(
                child, (ast.Raise, ast.JoinedStr)
            )
            if isinstance(child, ast.AST) and not said:
                yield child
                yield from places(child)


def changed(node: Any) -> str:
    """Put a fault into this part, and say which; nothing if there is none for it."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in SWAPS:
            node.ops = [SWAPS[type(operator)]()]
            return f"{type(operator).__name__} becomes {type(node.ops[0]).__name__}"
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp() if type(node.op) in SWAPS:
            old, node.op = node.op, SWAPS[type(node.op)]()
            return f"{type(old).__name__} becomes {type(node.op).__name__}"
        case ast.UnaryOp(op=ast.USub()):
            node.op = ast.UAdd()
            return "minus becomes plus"
        case ast.Constant(value=bool() | int() | float() as value):
            node.value = not value if value is True or value is False else (
                value + 1 if isinstance(value, int) else 1.5 * value or 1.0
            )  # fmt: skip
            return f"{value} becomes {node.value}"
        case ast.Attribute() if node.attr in NAMES | ALIASES:
            old, node.attr = node.attr, (NAMES | ALIASES)[node.attr]
            return f"{old} becomes {node.attr}"
        case ast.Name() if node.id in NAMES:
            old, node.id = node.id, NAMES[node.id]
            return f"{old} becomes {node.id}"
        case ast.If() | ast.IfExp() | ast.While():
            node.test = ast.UnaryOp(ast.Not(), node.test)
            return "condition turned round"
        case ast.Expr(value=ast.Call()):
            node.value = ast.Constant(None)
            return "call left out"
    return ""


def drawn_faults(module: str, count: int = DRAWN) -> list[Fault]:
    """Drawn by a generator that the module's name seeds; each told by its line and the change."""
    source, faults = source_of(module), []
    number = sum(1 for _ in places(ast.parse(source)))
    for at in random.Random(module).sample(range(number), number):
        tree = ast.parse(source)
        node: Any = list(places(tree))[at]
        if change := changed(node):
            line = source.splitlines()[node.lineno - 1].strip()
            faults.append(Fault("drawn", module, f"{line}  [{change}]", ast.unparse(tree)))
        if len(faults) == count:
            break
    return faults


# --- Running --------------------------------------------------------------------------------------


def unit_tests(module: str) -> list[list[str]]:
    """Test files, as tests/test_NAME.py: those that look at the module, and the rest."""
    names = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    first = FIRST.get(module, module).split()
    rest = names - {*NO_UNIT_TESTS, *first}
    return [first, sorted(rest, key=lambda name: (LAST.index(name) if name in LAST else -1, name))]


def run_tests(tree: str, names: list[str], log: str, method: str) -> None:
    """In a process of its own: pytest on the copy `tree`, up to the first failure."""
    os.setsid()  # Ctrl+C is for the process that started this one, or it would look like a failure
    multiprocessing.set_start_method(method, force=True)  # of what the tests start themselves
    os.chdir(tree)
    os.environ["PYTHONPATH"] = tree
    sys.path.insert(0, tree)
    sys.dont_write_bytecode = False  # of the tests, which stay what they are
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not str(found.origin).startswith(tree):
        sys.exit(9)
    import pytest

    options = ["-x", "-q", "--tb=line", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    sys.exit(int(pytest.main([*options, *(f"tests/test_{name}.py" for name in names)])))


def try_fault(fault: Fault, tree: Path, context: Any) -> dict[str, Any] | None:
    """Plant it in the copy, run the tests, take it out again; None if stopped on the way."""
    path, log = tree / PACKAGE / f"{fault.module}.py", tree / "log.txt"
    start, by = time.monotonic(), ""
    path.write_text(fault.source)
    for names in unit_tests(fault.module):
        # Python knows a compiled module by the second and the size of its text: not enough here.
        shutil.rmtree(tree / PACKAGE / "__pycache__", ignore_errors=True)
        log.write_text("")
        arguments = str(tree), names, str(log), multiprocessing.get_start_method()
        process = context.Process(target=run_tests, args=arguments)
        process.start()
        while process.exitcode is None:
            process.join(0.2)
            hangs = time.time() - log.stat().st_mtime > SILENCE
            if process.exitcode is None and (hangs or STOP.is_set()):
                process.kill()
                process.join()
                by = "hung" if hangs else "stopped"
        with contextlib.suppress(ProcessLookupError):  # what a failed test has started and left
            os.killpg(process.pid, signal.SIGKILL)
        text = log.read_text(errors="replace")
        if failed := re.search(
            r"^(?:FAILED|ERROR) (?:tests/)?(.+?)(?: - .*)?$", text, re.MULTILINE
        ):
            by = failed[1]
        elif process.exitcode in (-signal.SIGABRT, -signal.SIGSEGV):
            by = "crashed"
        elif not by and process.exitcode != 0:
            raise RuntimeError(f"pytest ended with {process.exitcode}:\n{text[-2000:]}")
        if by:
            break
    path.write_text(source_of(fault.module))
    if by == "stopped":
        return None
    return {
        "kind": fault.kind, "module": fault.module, "what": fault.what,
        "caught": bool(by), "by": by, "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


def digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def evidence(row: dict[str, Any]) -> str:
    """Checksum of what a row rests on, its module aside: the tests that failed, or everything."""
    spoke = re.match(r"test_\w+\.py", row["by"])
    if spoke and (ROOT / "tests" / spoke[0]).exists():
        return digest(ROOT / "tests" / spoke[0])
    return digest(*sorted([*(ROOT / PACKAGE).glob("*.py"), *(ROOT / "tests").glob("*.py")]))


def copied(folder: Path) -> Path:
    """A copy of what git knows of the tree."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, names)):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def run_all(faults: list[Fault], jobs: int, minutes: float) -> list[dict[str, Any]]:
    """A row for each fault, in order, as far as the minutes allow; known rows are not run again."""
    end = time.monotonic() + 60 * minutes
    ROWS.parent.mkdir(exist_ok=True)
    lines = ROWS.read_text().splitlines() if ROWS.exists() else []
    known = {tuple(row["key"]): row for row in map(json.loads, lines)}
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([  # imported once, not once a fault
        "tensorflow", "keras", "gymnasium.vector", "scipy.stats", "scipy.optimize",
        "matplotlib.pyplot", "hypothesis.strategies",
    ])  # fmt: skip
    with tempfile.TemporaryDirectory() as above, ThreadPoolExecutor(jobs) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        for i in range(jobs):
            trees.put(copied(Path(above) / str(i)))

        def one(fault: Fault) -> dict[str, Any] | None:
            key = (
                fault.kind,
                fault.module,
                fault.what,
                hashlib.sha256(fault.source.encode()).hexdigest(),
            )
            row = known.get(key)
            if row is None or row["evidence"] != evidence(row):
                if time.monotonic() > end or STOP.is_set():
                    return None
                tree = trees.get()
                try:
                    row = try_fault(fault, tree, context)
                finally:
                    trees.put(tree)
                if row is None:
                    return None
                row |= {"key": key, "evidence": evidence(row)}
                with open(ROWS, "a") as file:
                    file.write(json.dumps(row) + "\n")
            verdict = (
                "caught" if row["caught"] else "passed" if fault.kind == "none" else "SURVIVED"
            )
            told = " ".join(row["what"].split())
            print(f"{verdict:9}{row['module']:12}{row['seconds']:6.1f} s  {told}", flush=True)
            if row["by"]:
                print(f"{'':30}{row['by']}", flush=True)
            return row

        tried = [pool.submit(one, fault) for fault in faults]
        try:
            rows = [row for future in tried if (row := future.result()) is not None]
        except BaseException as error:
            STOP.set()
            pool.shutdown(cancel_futures=True)
            if not isinstance(error, KeyboardInterrupt):
                raise
            done = [future for future in tried if future.done() and not future.cancelled()]
            rows = [row for future in done if (row := future.result()) is not None]
        return rows


# --- What came of it ------------------------------------------------------------------------------


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of the two samples, and every survivor with the reason, where the table has one."""
    reasons = {(m, what): why for m, part in table().items() for what, why in part.get("same", [])}
    result: dict[str, Any] = {"date": date.today().isoformat(), "survivors": []}
    for kind in ("chosen", "drawn"):
        of_kind = [row for row in rows if row["kind"] == kind]
        left = [row for row in of_kind if not row["caught"]]
        same = [row for row in left if (row["module"], row["what"]) in reasons]
        modules: dict[str, list[int]] = {}
        for row in of_kind:
            counts = modules.setdefault(row["module"], [0, 0])
            counts[0] += row["caught"]
            counts[1] += 1
        result[kind] = {
            "faults": len(of_kind), "caught": len(of_kind) - len(left), "same": len(same),
            "hung": sum(row["by"] == "hung" for row in of_kind), "modules": modules,
        }  # fmt: skip
        result["survivors"] += [
            {name: row[name] for name in ("kind", "module", "what")}
            | {"why": reasons.get((row["module"], row["what"]), "")}
            for row in left
        ]
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", nargs="*", help="some modules; none: all, and the result is kept")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="side by side")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no fault after so many")
    options = parser.parse_args()
    modules = options.module or list(table())
    faults = [f for m in modules for f in [*chosen_faults(m), *drawn_faults(m)]]
    random.Random(0).shuffle(faults)  # what is done when it is stopped is a fair sample
    if not options.module:  # the tests must pass while nothing is wrong
        nothing = Fault("none", "agent", "nothing is changed", source_of("agent"))
        passed = run_all([nothing], 1, options.minutes)
        if not passed or passed[0]["caught"]:
            print("The tests must pass while nothing is changed; no fault is tried.")
            return 1
    rows = run_all(faults, options.jobs, options.minutes)
    result = summary(rows)
    stopped = len(rows) < len(faults)
    if stopped:
        print(f"\nStopped after {len(rows)} of {len(faults)}; the same command goes on from there.")
    elif not options.module:
        STORED.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{'module':14}{'chosen':>10}{'drawn':>10}   caught of planted")
    for module in modules:
        told = [
            "{} of {}".format(*result[k]["modules"].get(module, (0, 0)))
            for k in ("chosen", "drawn")
        ]
        print(f"{module:14}{told[0]:>10}{told[1]:>10}")
    enough = not stopped
    for kind in ("chosen", "drawn"):
        counts = result[kind]
        share = counts["caught"] / max(1, counts["faults"] - counts["same"])
        enough &= share >= WANTED
        print(
            f"{kind}: {counts['caught']} of {counts['faults']} caught; {counts['same']} change "
            f"nothing that can be seen; of the others {share:.1%}, at least {WANTED:.0%} wanted"
        )
    for row in result["survivors"]:
        print(f"survived: {row['module']}: {row['what']}\n  {row['why'] or 'NO REASON IS KNOWN'}")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
