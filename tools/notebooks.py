"""Run the notebooks again and store them in a normal form, so that a re-run changes nothing.

    python tools/notebooks.py                  run all, in place
    python tools/notebooks.py 00_quickstart    run some
    python tools/notebooks.py --check          only say which are not in normal form

A cell whose tags fold it (hide-input: its code; hide-cell: what it prints too) starts with a
comment that says what is inside: the prompt in the book, and the line that JupyterLab shows.

A cell that raises an error, writes to stderr or leaves a widget is a fault: the notebook is then
left as it was. (tqdm's notebook bar heeds TQDM_DISABLE only where `disable=` passes it on.)

How long each notebook ran is kept in book/data/notebooks.json; nothing else differs after a re-run.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

# Before any kernel starts: progress bars are no results. What TensorFlow's C++ writes goes past the
# notebook (see tools/ipython_kernel_config.py); Python's stderr stays a fault.
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("PYTHONHASHSEED", "0")

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from stored import ROOT, machine, versions, write

FOLDER, TIMES = ROOT / "notebooks", ROOT / "book/data/notebooks.json"
SECONDS_PER_CELL = 300
KEPT_METADATA = ("mystnb", "tags")
PROMPTS = ("code_prompt_show", "code_prompt_hide")  # of MyST-NB, for a folded cell
FOLDED = {
    "hide-input": {"source_hidden": True},
    "hide-cell": {"source_hidden": True, "outputs_hidden": True},
}
LINES, WORDS = 450, 4_000  # the most that a chapter may show; aim at 300 and 3,000
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream: where the kernel cut them is chance."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def prompt(cell: NotebookNode) -> str:
    """What a folded cell says is inside: its first line, a comment; empty if there is none."""
    return found[1] if (found := re.match(r"# (?:@title )?(.+)", cell.source)) else ""


def fold(cell: NotebookNode) -> None:
    """Make a tag that folds a cell in the book do so in JupyterLab too, with its prompt."""
    found = FOLDED.keys() & set(cell.metadata.get("tags", []))
    mystnb = {k: v for k, v in cell.metadata.get("mystnb", {}).items() if k not in PROMPTS}
    for tag in found:
        cell.metadata["jupyter"] = FOLDED[tag]
        mystnb |= dict.fromkeys(PROMPTS, prompt(cell))
    if mystnb:
        cell.metadata["mystnb"] = mystnb
    else:
        cell.metadata.pop("mystnb", None)


def is_folded(cell: NotebookNode) -> bool:
    return bool(FOLDED.keys() & set(cell.metadata.get("tags", [])))


def counts(notebook: NotebookNode) -> tuple[int, int]:
    """What a reader sees: lines of code that are neither empty nor folded; words of prose."""
    code = [c.source for c in notebook.cells if c.cell_type == "code" and not is_folded(c)]
    prose = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    lines = sum(bool(line.strip()) for source in code for line in source.splitlines())
    return lines, sum(len(source.split()) for source in prose)


def normalise(notebook: NotebookNode) -> str:
    """The notebook as text, without what differs between two equal runs."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = cell.get("id") or f"cell-{index:02d}"
        cell.metadata = nbformat.from_dict(
            {key: value for key, value in cell.metadata.items() if key in KEPT_METADATA}
        )
        fold(cell)
        if cell.cell_type == "code":
            cell.outputs = merge_streams(cell.outputs)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def faults(notebook: NotebookNode) -> list[str]:
    """One line for each output that must not be stored: errors, stderr, widgets (progress bars)."""
    lines = []
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for index, cell in enumerate(code_cells):  # nbval counts in the same way
        for output in cell.outputs:
            if output.output_type == "error":
                lines.append(
                    f"code cell {index} ({cell.id}) raised {output.ename}: {output.evalue}"
                )
            elif output.output_type == "stream" and output.name == "stderr":
                lines.append(
                    f"code cell {index} ({cell.id}) wrote to stderr: {output.text.strip()}"
                )
            elif "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                lines.append(
                    f"code cell {index} ({cell.id}) left a widget: no stored page can show it"
                )
    return lines


def run(path: Path) -> list[str]:
    """Execute one notebook and store it; return its faults, storing nothing if there are any."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.capture_fd_output=False"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute(stderr=subprocess.DEVNULL)
    except CellExecutionError:
        pass  # the error stands in the cell's outputs, where faults() finds it
    except (CellTimeoutError, DeadKernelError) as error:
        return [str(error)]
    found = faults(notebook)
    if not found:
        path.write_text(normalise(notebook), encoding="utf-8")
    return found


def store_times(found: dict[str, float]) -> str:
    """Keep run times, in whole seconds, of notebooks by name; return what became of them.

    All times in the file are of one machine and one set of versions. On another, or with others,
    only a whole run is kept.
    """
    names = [notebook.stem for notebook in sorted(FOLDER.glob("*.ipynb"))]
    used = versions("tensorflow", "keras", "numpy", "gymnasium")
    seconds = {name: round(took) for name, took in found.items()}
    stored = json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.exists() else {}
    if (stored.get("machine"), stored.get("versions")) == (machine(), used):
        seconds = stored["seconds"] | seconds
    elif set(seconds) != set(names):
        return "Run times not stored: the others' are of another machine or other versions."
    kept = {name: seconds[name] for name in names if name in seconds}
    write(TIMES, {"versions": used, "seconds": kept})
    return f"Run times stored in {TIMES.name}."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="for example 00_quickstart (default: all)")
    parser.add_argument("--check", action="store_true", help="run nothing, check the normal form")
    arguments = parser.parse_args()

    paths = [FOLDER / f"{Path(name).stem}.ipynb" for name in arguments.names]
    paths = paths or sorted(FOLDER.glob("*.ipynb"))
    if missing := [path.name for path in paths if not path.exists()]:
        parser.error(f"no such notebook in notebooks/: {', '.join(missing)}")

    failed, times = 0, {}
    for path in paths:
        start = time.perf_counter()
        if arguments.check:
            text = path.read_text(encoding="utf-8")
            same = text == normalise(nbformat.reads(text, as_version=4))
            found = [] if same else ["not in normal form: run `make notebooks`"]
            lines, words = counts(nbformat.reads(text, as_version=4))
            print(f"{path.stem:24s}{lines:5d} lines of code that show {words:6,d} words")
        else:
            print(f"{path.name:40s}", end=" ", flush=True)
            found = run(path)
            took = time.perf_counter() - start
            print("FAILED" if found else f"{took:6.1f} s", flush=True)
            times |= {} if found else {path.stem: took}
        failed += bool(found)
        for fault in found:
            print(f"notebooks/{path.name}: {fault}", file=sys.stderr)
    what = "checked" if arguments.check else "run and stored"
    if times:
        print(store_times(times))
    print(f"{len(paths) - failed} of {len(paths)} notebooks {what} without a fault.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
