"""Everything that `make test` checks, part by part, and at the end what each took and found.

Two workers share the tests, and then the notebooks, a file at a time; what measures time or memory
(marked `alone`) has the machine to itself. After lint or book the first fault ends it; tests and
notebooks all run. What failed is listed again at the end.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

MAKE = [os.environ.get("MAKE", "make"), "--no-print-directory"]
PYTEST = [sys.executable, "-m", "pytest"]
TWO_WORKERS = ["-n", "2", "--dist", "loadfile"]
# The digits after an approximately-equal sign may differ; nothing else may.
APPROXIMATE = Path(__file__).resolve().parents[1] / "notebooks" / "approximate.cfg"
NBVAL = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=300"]
NBVAL += ["--nbval-sanitize-with", str(APPROXIMATE)]
TIMED = ["notebooks/14_faster.ipynb"]  # it measures time
PARTS = {
    "format, lint, types": [*MAKE, "check"],
    "book": [*MAKE, "html", "FRESH=--all"],
    "tests": [*PYTEST, *TWO_WORKERS, "-m", "not alone", "tests"],
    "tests, alone": [*PYTEST, "-m", "alone", "tests"],
    "notebooks": [*PYTEST, *TWO_WORKERS, *NBVAL, "notebooks", *(f"--ignore={n}" for n in TIMED)],
    "notebooks, alone": [*PYTEST, *NBVAL, *TIMED],
}
FIRST = ("format, lint, types", "book")  # without these the tests tell nothing


def run(command: list[str]) -> tuple[bool, list[str]]:
    """Show what the command says while it says it. Has it passed, and which lines were it?"""
    said = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while piece := process.stdout.read1():  # not line by line: a dot a test is progress too
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()
            said += piece
    return process.returncode == 0, said.decode(errors="replace").splitlines()


def main() -> int:
    table, failures, counts = [], [], {"failed": 0, "passed": 0, "skipped": 0}
    begun = time.monotonic()
    for part, command in PARTS.items():
        print(f"\n--- {part}", flush=True)
        start = time.monotonic()
        passed, lines = run(command)
        minutes = (time.monotonic() - start) / 60
        closing = re.findall(r"(\d+) (failed|passed|skipped|error)", lines[-1] if lines else "")
        for number, what in closing:
            counts["failed" if what == "error" else what] += int(number)
        found = ", ".join(" ".join(pair) for pair in closing) or ("passed" if passed else "failed")
        table.append(f"{part:22s}{minutes:5.1f} min  {found}{'' if passed else '  <-- FAILED'}")
        failures += [line for line in lines if re.match("(FAILED|ERROR) ", line)]
        failures += [] if passed else [f"FAILED {part}"]
        if not passed and part in FIRST:
            break
    print("\n--- in all", *failures, *table, sep="\n")
    said = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    verdict = "FAILED" if failures else "All is well"
    print(
        f"{verdict}: {said or 'no test has run'} in {(time.monotonic() - begun) / 60:.1f} minutes."
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
