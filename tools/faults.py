"""Plant the faults of tests/tools/faults.toml, one at a time, and see that the tests notice each.

    python tools/faults.py                all of them; stores what came out in book/data/faults.json
    python tools/faults.py targets envs   those of the files whose path holds one of the words

Everything happens in a copy of the tree. Tests that do not come to an end count as red.
"""

import contextlib
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

from stored import ROOT, versions, write

TABLE, RESULT = ROOT / "tests/tools/faults.toml", ROOT / "book/data/faults.json"
SECONDS = 600  # after which tests count as hanging


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


def red(folder: Path, tests: str) -> str:
    """Run the tests in the copy: the name of the one that fails, or "" if all pass."""
    # No compiled modules: Python tells a changed text by its size and second only.
    settings = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, "--hypothesis-seed=0", *shlex.split(tests)],
        cwd=folder,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "came to no end"
    finally:
        with contextlib.suppress(ProcessLookupError):  # what the tests have started and left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode == 0:
        return ""
    if failed := re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE):
        return failed[1]
    if process.returncode < 0:
        return "crashed"
    sys.exit(f"pytest {tests} has run no test:\n{said[-3000:]}")


def main() -> int:
    words = sys.argv[1:]
    faults = [f for f in table() if not words or any(word in f.file for word in words)]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_tree(folder)
        for tests in dict.fromkeys(fault.tests for fault in faults):
            if failed := red(folder, tests):
                sys.exit(f"red without a fault: {failed}")
            print(f"green without a fault: {tests}", flush=True)
        for fault in faults:
            path, start = folder / fault.file, time.perf_counter()
            source = path.read_text(encoding="utf-8")
            path.write_text(source.replace(fault.right, fault.wrong), encoding="utf-8")
            caught_by = red(folder, fault.tests)
            path.write_text(source, encoding="utf-8")
            seconds = round(time.perf_counter() - start)
            rows.append(
                {"file": fault.file, "what": fault.what, "caught_by": caught_by, "seconds": seconds}
            )
            print(f"{seconds:4d} s  {fault.file}: {fault.what}", flush=True)
            print(f"        {caught_by or 'NOT CAUGHT'}", flush=True)
    caught = sum(bool(row["caught_by"]) for row in rows)
    if not words:
        used = versions("tensorflow", "keras", "numpy", "gymnasium", "pytest")
        write(RESULT, {"versions": used, "faults": rows})
    print(f"{caught} of {len(rows)} faults were caught.")
    return 0 if caught == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
