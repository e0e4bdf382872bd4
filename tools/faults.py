"""Plant the faults of tests/tools/faults.toml, one at a time, and see that the tests notice each.

    python tools/faults.py                all of them
    python tools/faults.py targets envs   those of the files whose path holds one of the words

What came out is stored in book/data/faults.json, beside the last outcome of the others. Everything
happens in a copy of the tree. Tests that do not come to an end count as red.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from stored import ROOT, versions, write

TABLE, RESULT = ROOT / "tests/tools/faults.toml", ROOT / "book/data/faults.json"
SECONDS = 600  # after which tests count as hanging
# Imported once: each fault's tests run in a copy of this process.
NEEDED = ("tensorflow", "keras", "gymnasium.vector", "scipy.stats", "matplotlib", "hypothesis")


class Fault(NamedTuple):
    file: str
    tests: str  # arguments of pytest
    what: str
    right: str
    wrong: str


def table() -> list[Fault]:
    groups = tomllib.loads(TABLE.read_text(encoding="utf-8"))["group"]
    return [Fault(g["file"], g["tests"], *row) for g in groups for row in g["faults"]]


def copy_tree(folder: Path) -> None:
    """What git knows of the tree, and what it would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def run_tests(folder: Path, tests: str) -> None:
    """In a process of its own: pytest on the copy, up to the first failure."""
    os.setsid()  # so that what the tests start can be ended with them
    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "TQDM_DISABLE": "1"}
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # Python tells a changed text by its size and second only
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    options = ["-x", "-q", "--tb=line", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    sys.exit(int(pytest.main([*options, *shlex.split(tests)])))


def red(folder: Path, tests: str) -> str:
    """Run the tests in the copy: the name of the one that fails, or "" if all pass."""
    process = multiprocessing.get_context("fork").Process(target=run_tests, args=(folder, tests))
    process.start()
    process.join(SECONDS)
    code = process.exitcode
    with contextlib.suppress(ProcessLookupError):  # what the tests have started and left, too
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    said = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    if code == 0:
        return ""
    if failed := re.search(r"^(?:FAILED|ERROR) (tests[^\s[]+)", said, re.MULTILINE):
        return failed[1]
    if code is None or code < 0:
        return "came to no end" if code is None else "crashed"
    sys.exit(f"pytest {tests} has run no test:\n{said[-3000:]}")


def try_fault(folder: Path, fault: Fault) -> dict[str, object]:
    """Plant it in the copy, run its tests, take it out again."""
    path, start = folder / fault.file, time.perf_counter()
    source = path.read_text(encoding="utf-8")
    path.write_text(source.replace(fault.right, fault.wrong), encoding="utf-8")
    caught_by = red(folder, fault.tests)
    path.write_text(source, encoding="utf-8")
    seconds = round(time.perf_counter() - start)
    print(f"{seconds:4d} s  {fault.file}: {fault.what}", flush=True)
    print(f"        {caught_by or 'NOT CAUGHT'}", flush=True)
    return {"file": fault.file, "what": fault.what, "caught_by": caught_by, "seconds": seconds}


def store(rows: list[dict[str, object]]) -> None:
    """The new outcomes, and the stored ones of other faults that are still in the table."""
    old = json.loads(RESULT.read_text(encoding="utf-8"))["faults"] if RESULT.exists() else []
    by_name = {(row["file"], row["what"]): row for row in [*old, *rows]}
    names = [(fault.file, fault.what) for fault in table()]
    used = versions("tensorflow", "keras", "numpy", "gymnasium", "pytest")
    kept = [by_name[name] for name in names if name in by_name]
    write(RESULT, {"versions": used, "faults": kept})


def main() -> int:
    chosen = sys.argv[1:] or [""]
    faults = [f for f in table() if any(word in f.file.partition("/")[2] for word in chosen)]
    for module in NEEDED:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_tree(folder)
        for tests in dict.fromkeys(fault.tests for fault in faults):
            if failed := red(folder, tests):
                sys.exit(f"red without a fault: {failed}")
            print(f"green without a fault: {tests}", flush=True)
        rows = [try_fault(folder, fault) for fault in faults]
    store(rows)
    caught = sum(bool(row["caught_by"]) for row in rows)
    print(f"{caught} of {len(rows)} faults were caught.")
    return 0 if caught == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
