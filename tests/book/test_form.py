"""The form of a chapter: what a reader sees, and what is folded out of the way.

Each rule says what is wrong with a notebook. What a rule cannot see, a reader must: see "How a
chapter is reviewed" in CONTRIBUTING.md.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from notebooks import FOLDER, LINES, WORDS, counts, is_folded, prompt

# Not yet in this form; the list gets shorter, never longer.
PENDING = {"09_training", "11_evaluation", "14_faster"}
PATHS = [path for path in sorted(FOLDER.glob("*.ipynb")) if path.stem not in PENDING]
COLUMNS, SCREEN = 80, 40  # of code; lines of a cell that can be taken in at one look
PROGRAM = 95  # lines of a snippet: a whole program, to copy, may take two looks
CHECKS = "The checks of"  # how the prompt of a section's checks begins
TITLE = re.compile(r"# \d+b?\. [^:\n]+: [^\n]+\n")  # the topic, then the question


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def before_the_exercises(notebook: NotebookNode) -> list[NotebookNode]:
    cells = notebook.cells
    ends = [i for i, c in enumerate(cells) if re.search(r"^## Exercises", c.source, re.M)]
    return cells[: ends[0]] if ends else cells


def too_much(notebook: NotebookNode) -> Iterator[str]:
    lines, words = counts(notebook)
    if lines > LINES or words > WORDS:
        yield f"{lines} lines of code that show, {words} words: at most {LINES} and {WORDS:,}"
    for cell in code_cells(notebook):
        source = cell.source.splitlines()
        most = PROGRAM if "snippet" in tags(cell) else SCREEN
        if not is_folded(cell) and len(source) > most:
            yield f"{cell.id}: {len(source)} lines in one piece"
        for line in source:
            if len(line) > COLUMNS:
                yield f"{cell.id}: wider than {COLUMNS} columns: {line}"


def in_the_readers_way(notebook: NotebookNode) -> Iterator[str]:
    """Checks among the code that shows, and folded cells that do not say what is inside."""
    for cell in before_the_exercises(notebook):
        if cell.cell_type != "code":
            continue
        if is_folded(cell):
            if not prompt(cell):
                yield f"{cell.id}: folded, and its first line does not say what is inside"
        elif re.search(r"^\s*assert\b", cell.source, re.M) and "snippet" not in tags(cell):
            yield f"{cell.id}: an assert that shows"
    yield from scattered_checks(notebook)


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def scattered_checks(notebook: NotebookNode) -> Iterator[str]:
    """A section has one folded cell of checks at most, and nothing after it."""
    section: list[NotebookNode] = []
    for cell in [*before_the_exercises(notebook), None]:
        if cell is None or re.match(r"(\([\w-]+\)=\n)?## ", cell.source):
            checks = [i for i, c in enumerate(section) if is_checks(c)]
            if checks not in ([], [len(section) - 1]):
                yield f"{section[checks[0]].id}: checks stand once, at the end of a section"
            section = []
        section.append(cell)


def is_checks(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and is_folded(cell) and prompt(cell).startswith(CHECKS)


def posing_as_computed(notebook: NotebookNode) -> Iterator[str]:
    """Typed sentences and numbers that are printed like results; table heads are neither."""
    for cell in before_the_exercises(notebook):
        if cell.cell_type != "code" or cell.source.startswith("%"):
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"):
                continue
            if node.args and all(isinstance(arg, ast.Constant) for arg in node.args):
                text = " ".join(str(arg.value) for arg in node.args)
                if re.search(r"\d|[.!]\s*$", text):
                    yield f"{cell.id}: prints what was typed: {text!r}"


def private_words(notebook: NotebookNode) -> Iterator[str]:
    """Names with an underscore in front, and labels of equations, which a page shows as numbers."""
    for cell in code_cells(notebook):
        for word in re.findall(r"\b_[a-z]\w*|\bch\d\db?-[a-z]\w*", cell.source):
            yield f"{cell.id}: {word}"


def untitled(notebook: NotebookNode) -> Iterator[str]:
    if not TITLE.match(notebook.cells[0].source):
        yield "the title is not `# N. Topic: question`"


RULES = (too_much, in_the_readers_way, posing_as_computed, private_words, untitled)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_chapter_keeps_to_the_form(path: Path):
    notebook = nbformat.read(path, as_version=4)
    assert [fault for rule in RULES for fault in rule(notebook)] == []


def test_the_exceptions_are_chapters():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} >= PENDING


def test_each_rule_sees_what_is_wrong():
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    folded = {"tags": ["hide-cell"]}
    cells = [
        text("# 7. Why remember?\n" + "word " * 5000, id="t"),
        text("## A section", id="s"),
        code("x = 1\n" * 41 + "y" * 81 + "\nassert x", id="a"),
        code("assert x", metadata=folded, id="b"),
        code("# The checks of this section\nassert x", metadata=folded, id="c"),
        code("print('More than 89 %.')\nprint('level   share')\nprint(x)", id="d"),
        code("# equation ch06-loss\nagent._update()", id="e"),
        text("## Exercises", id="f"),
        code("assert x  # yours", id="g"),
    ]
    wrong = nbformat.v4.new_notebook(cells=cells)
    found = [[fault.partition(":")[0] for fault in rule(wrong)] for rule in RULES]
    assert found == [
        ["49 lines of code that show, 5009 words", "a", "a"],
        ["a", "b", "c"],
        ["d"],
        ["e", "e"],
        ["the title is not `# N. Topic"],
    ]
