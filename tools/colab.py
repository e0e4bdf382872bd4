"""Write notebooks that need nothing but themselves: the package travels inside, as readable text.

    python tools/colab.py    writes one a chapter into _build/colab

A copy is the chapter with its stored outputs, so that a reader sees what should come out, and one
code cell more, which writes the package beside the notebook; the set-up cell then finds it there.
What only the book's pages can show, roles and links to other files, becomes plain text.
"""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from notebooks import is_folded

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dqnrec_lite"
ROWS = PACKAGE / "studies" / "rows"  # one file a study
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

NOTE = """\
*This copy of the chapter stands alone.* The next cell writes the book's package, `dqnrec_lite`, \
into a folder beside this notebook. Nothing is fetched. You can read all of it: the cell is folded \
only because it is long. What else is needed comes with Colab: TensorFlow, NumPy, SciPy, \
Matplotlib, Gymnasium, tqdm."""

BEFORE = """\
# @title The package dqnrec_lite
import importlib
from pathlib import Path

FILES = {}
"""

AFTER = """
differing = []
for name, text in FILES.items():
    path, text = Path("dqnrec_lite", name), text[1:]  # without the line break after the quotes
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        differing.append(name)
importlib.invalidate_caches()
print("dqnrec_lite:", len(FILES), "files are beside this notebook")
if differing:
    print("Left as they were, though they differ from those in this cell:", *differing)"""


def studies_in(code: str) -> list[Path]:
    """The stored rows that a notebook may read: of the studies whose names its code quotes."""
    if not re.search(r"\bstudies\b", code):
        return []
    return [
        path for path in sorted(ROWS.glob("*.jsonl")) if re.search(f"[\"']{path.stem}[\"']", code)
    ]


def unpack_cell(code: str) -> NotebookNode:
    """The cell that holds the package and writes it beside the notebook.

    Args:
        code: the notebook's. Of the long studies' rows, which are larger than all modules, the cell
            holds those that this code may read.

    Raises:
        ValueError: a file cannot stand between the quotes as it is.
    """
    parts = [BEFORE]
    for path in [*sorted(PACKAGE.rglob("*.py")), *studies_in(code)]:
        name = path.relative_to(PACKAGE).as_posix()
        text = path.read_bytes().decode("utf-8")
        if "'''" in text or "\r" in text or not text.endswith("\n"):
            raise ValueError(f"{name}: lines that end in \\n, and no ''', expected")
        parts.append(f"FILES[\"{name}\"] = r'''\n{text}'''\n")
    folded = {"cellView": "form", "jupyter": {"source_hidden": True}}
    return new_code_cell("\n".join([*parts, AFTER]), metadata=folded, id="package")


def plain(text: str) -> str:
    """Markdown without MyST's roles and without links to files that a lone notebook lacks."""
    text = re.sub(r"(?m)^\([\w-]+\)=\n", "", text)  # (label)=
    text = re.sub(r"\{[\w:]+\}`([^`<]+?)\s*<[^`>]*>`", r"\1", text)  # {doc}`text <target>`
    text = re.sub(r"\{eq\}`([^`]*)`", r"(\1)", text)
    text = re.sub(r"\{cite(?::\w+)?\}`([^`]*)`", r"[\1]", text)
    text = re.sub(r"\{[\w:]+\}`([^`]*)`", r"\1", text)
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)[^)\s]*\)", r"\1", text)


def fold_in_colab(cell: NotebookNode) -> None:
    """Colab folds a cell that is a form; its title stands where the code was."""
    if is_folded(cell):
        cell.metadata["cellView"] = "form"
        cell.source = cell.source.replace("# ", "# @title ", 1)


def stand_alone(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the package inside: after its title stand a note and the unpacking cell."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source)
        else:
            fold_in_colab(cell)
    notebook.cells[1:1] = [new_markdown_cell(NOTE, id="note"), unpack_cell(code)]
    return notebook


def write_copies(folder: Path) -> list[Path]:
    """Write a copy of each chapter that stands alone; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in NOTEBOOKS:
        copy = stand_alone(nbformat.read(path, as_version=4))
        nbformat.write(copy, folder / path.name)
    return [folder / path.name for path in NOTEBOOKS]


if __name__ == "__main__":
    written = write_copies(ROOT / "_build" / "colab")
    print(f"_build/colab: {len(written)} notebooks, each with the package inside.")
