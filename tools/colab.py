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

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dqnrec_lite"
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
folder, differing = Path("dqnrec_lite"), []
folder.mkdir(exist_ok=True)
for name, text in FILES.items():
    path, text = folder / name, text[1:]  # without the line break after the quotes
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        differing.append(name)
importlib.invalidate_caches()
print("dqnrec_lite:", len(FILES), "files are beside this notebook")
if differing:
    print("Left as they were, though they differ from those in this cell:", *differing)"""


def unpack_cell(with_data: bool) -> NotebookNode:
    """The cell that holds the package and writes it beside the notebook.

    Args:
        with_data: hold the long studies' stored rows too, which are larger than all modules.

    Raises:
        ValueError: a file cannot stand between the quotes as it is.
    """
    parts = [BEFORE]
    for path in [*sorted(PACKAGE.glob("*.py")), *sorted(PACKAGE.glob("*.jsonl")) * with_data]:
        text = path.read_bytes().decode("utf-8")
        if "'''" in text or "\r" in text or not text.endswith("\n"):
            raise ValueError(f"{path.name}: lines that end in \\n, and no ''', expected")
        parts.append(f"FILES[\"{path.name}\"] = r'''\n{text}'''\n")
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


def stand_alone(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the package inside: after its title stand a note and the unpacking cell."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    reads_data = re.search(r"\bexperiments\b", code) is not None  # the module that holds them
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source)
    notebook.cells[1:1] = [new_markdown_cell(NOTE, id="note"), unpack_cell(reads_data)]
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
