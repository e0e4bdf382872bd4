"""The notebooks' conventions. That their outputs are right is nbval's part, in the same run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from pathlib import Path

import check
import nbformat
import pytest
from nbformat import NotebookNode

import notebooks

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in PATHS}
ABSOLUTE = re.compile(r"(?<![\w./])/(?:home|root|tmp|work|Users|usr|var)/")


def cells_of(notebook: NotebookNode, kind: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def code_cells(name: str) -> list[NotebookNode]:
    return cells_of(NOTEBOOKS[name], "code")


def written_and_printed(cell: NotebookNode) -> str:
    """All text of a cell: its source, and what its outputs show without pictures."""
    parts = [cell.source]
    for output in cell.get("outputs", []):
        parts.append(output.get("text", ""))
        data = output.get("data", {}).items()
        parts += [str(content) for kind, content in data if "image" not in kind]
    return "\n".join(parts)


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def faults(what_is_wrong: Callable[[NotebookNode], Iterable[str]]) -> list[str]:
    """A line for whatever is wrong in any notebook."""
    return [f"{name}: {fault}" for name, book in NOTEBOOKS.items() for fault in what_is_wrong(book)]


def test_the_table_of_contents_and_the_folder_list_the_same_notebooks_in_order():
    listed = re.findall(r"^\s*-?\s*file:\s*notebooks/(\S+)", (ROOT / "_toc.yml").read_text(), re.M)
    assert [name.removesuffix(".ipynb") for name in listed] == list(NOTEBOOKS)


def test_every_notebook_has_the_same_set_up_cell():
    first = {name: code_cells(name)[0].source for name in NOTEBOOKS}
    assert len(set(first.values())) == 1, f"unlike set-up cells in {list(first)}"
    assert "dqnrec_lite" in next(iter(first.values()))


def missing_from_the_frame(notebook: NotebookNode) -> Iterator[str]:
    """What a reader looks for in the first cell and at the end."""
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "does not start with a title"
    for part in ("What you will learn", "What you need", "Run time"):
        if part not in first.source:
            yield f"first cell: no {part!r}"
    text = "\n".join(cell.source for cell in cells_of(notebook, "markdown"))
    places = [text.find(f"\n## {part}") for part in ("Key ideas", "Exercises", "References")]
    if -1 in places or places != sorted(places):
        yield "does not close with key ideas, exercises and references"
    folded = [cell for cell in cells_of(notebook, "code") if "hide-cell" in tags(cell)]
    if not folded and "dropdown" not in text:
        yield "no folded solution"


def test_a_notebook_says_what_one_learns_and_needs_and_closes_with_ideas_and_exercises():
    assert faults(missing_from_the_frame) == []


# --- Run times -----------------------------------------------------------------------------------

SECONDS = json.loads(notebooks.TIMES.read_text(encoding="utf-8"))["seconds"]
STATED = re.compile(r"\*\*Run time\.\*\* (About|Under) (?:a|(\d+)) (second|minute)s? on two cores")


def test_every_notebook_has_a_run_time_and_together_they_take_less_than_20_minutes():
    assert list(SECONDS) == list(NOTEBOOKS)
    assert all(isinstance(took, int) for took in SECONDS.values())
    assert sum(SECONDS.values()) < 20 * 60


def test_a_notebook_takes_as_long_as_its_first_cell_says_and_under_two_minutes():
    """Two cores took so long once: nothing is timed here, however slow or busy the machine is."""
    wrong = {}
    for name, notebook in NOTEBOOKS.items():
        stated = STATED.search(notebook.cells[0].source)
        # Write: **Run time.** About 40 seconds on two cores. (or: Under a minute on ...)
        assert stated, f"{name}: no run time in the form that is read here"
        seconds = int(stated[2] or 1) * (60 if stated[3] == "minute" else 1)
        least, most = (0.5 * seconds, 1.5 * seconds) if stated[1] == "About" else (0, seconds)
        if not least <= SECONDS[name] <= min(most, 120):
            wrong[name] = (stated[0], SECONDS[name])
    assert wrong == {}


def pretended_run(monkeypatch, capsys, times: dict[str, float], *asked: str) -> str:
    """What `make notebooks` prints if each takes as long as said; a negative time is a fault."""
    now = [0.0]

    def run(path: Path) -> list[str]:
        now[0] += abs(times[path.stem])
        return ["a fault"] if times[path.stem] < 0 else []

    monkeypatch.setattr(notebooks, "run", run)
    monkeypatch.setattr(notebooks.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(sys, "argv", ["notebooks.py", *asked])
    notebooks.main()
    return capsys.readouterr().out


def test_a_run_stores_how_long_each_notebook_took_and_leaves_the_others(
    monkeypatch, capsys, tmp_path
):
    folder, path = tmp_path / "notebooks", tmp_path / "data" / "notebooks.json"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.ipynb").touch()
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    monkeypatch.setattr(notebooks, "TIMES", path)

    pretended_run(monkeypatch, capsys, {"a": 1.4, "b": 2.6, "c": 9.0})
    first = json.loads(path.read_text())
    assert list(first) == ["date", "machine", "versions", "seconds"]
    assert first["seconds"] == {"a": 1, "b": 3, "c": 9}

    pretended_run(monkeypatch, capsys, {"b": 7.0}, "b")
    assert json.loads(path.read_text()) == first | {"seconds": {"a": 1, "b": 7, "c": 9}}
    before = path.read_text()
    pretended_run(monkeypatch, capsys, {"b": -5.0}, "b")  # what failed keeps its time
    assert path.read_text() == before

    (folder / "c.ipynb").unlink()
    pretended_run(monkeypatch, capsys, {"a": 4.0, "b": -5.0})
    assert json.loads(path.read_text())["seconds"] == {"a": 4, "b": 7}

    # Another machine: its times do not mix with ours.
    monkeypatch.setattr(notebooks, "machine", lambda: first["machine"] | {"cores": 99})
    before = path.read_text()
    said = pretended_run(monkeypatch, capsys, {"a": 2.0}, "a")
    assert "Run times not stored" in said
    assert path.read_text() == before
    pretended_run(monkeypatch, capsys, {"a": 2.0, "b": 3.0})
    assert json.loads(path.read_text())["seconds"] == {"a": 2, "b": 3}


# --- Cells ---------------------------------------------------------------------------------------


def wrong_code(notebook: NotebookNode) -> Iterator[str]:
    """Cells that were not run in order, or escape the comparison."""
    for number, cell in enumerate(cells_of(notebook, "code"), 1):
        if cell.execution_count != number:
            yield f"{cell.id}: not run in order"
        if "NBVAL_SKIP" in cell.source or {"nbval-skip", "raises-exception"} & set(tags(cell)):
            yield f"{cell.id}: skipped, or may fail"
        if cell.source.startswith("%%capture"):
            yield f"{cell.id}: hides what it prints"
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and is_ignored(cell):
            rest = takewhile(lambda c: not c.source.startswith("## "), notebook.cells[place + 1 :])
            if not any(c.cell_type == "code" and ASSERTS.search(c.source) for c in rest):
                yield f"{cell.id}: its output is not compared, and its section asserts nothing"


ASSERTS = re.compile(r"^\s*assert\b", re.M)


def is_ignored(cell: NotebookNode) -> bool:
    return "NBVAL_IGNORE_OUTPUT" in cell.source or "nbval-ignore-output" in tags(cell)


def test_code_cells_run_in_order_and_are_compared():
    assert faults(wrong_code) == []


def test_at_most_one_cell_in_twenty_is_not_compared():
    cells = [cell for name in NOTEBOOKS for cell in code_cells(name)]
    assert sum(map(is_ignored, cells)) <= 0.05 * len(cells)


def undescribed_pictures(notebook: NotebookNode) -> Iterator[str]:
    for cell in cells_of(notebook, "code"):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        if any(kind.startswith("image/") for kind in kinds):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
            if len(alt.split()) < 12 or NO_DESCRIPTION.match(alt):
                yield f"{cell.id}: alt text {alt!r}"
            if len(caption.split()) < 5 or caption == alt:
                yield f"{cell.id}: caption {caption!r}"
    for cell in cells_of(notebook, "markdown"):
        if "![](" in cell.source:
            yield f"{cell.id}: a picture without alt text"


NO_DESCRIPTION = re.compile(r"(an? |the )?(picture|image|figure|plot|graph)\b", re.I)


def test_every_picture_says_in_words_what_it_shows():
    assert faults(undescribed_pictures) == []


def test_no_two_pictures_are_described_alike():
    images = [
        c.metadata.get("mystnb", {}).get("image", {}) for n in NOTEBOOKS for c in code_cells(n)
    ]
    alts = [image["alt"] for image in images if image]
    assert len(alts) > 40
    assert len(set(alts)) == len(alts)


def stored_by_mistake(notebook: NotebookNode) -> Iterator[str]:
    """Errors, warnings, progress bars, addresses in memory, paths of the machine that ran it."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                yield f"{cell.id}: an error or a warning"
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                yield f"{cell.id}: a widget"
        text = written_and_printed(cell)
        yield from (f"{cell.id}: {found}" for found in re.findall(r" at 0x[0-9a-f]{6,}", text))
        yield from (f"{cell.id}: the path {found}..." for found in ABSOLUTE.findall(text))


def test_no_error_warning_progress_bar_address_or_path_of_a_machine_is_stored():
    assert faults(stored_by_mistake) == []


def test_the_checks_of_a_notebook_see_what_is_wrong():
    display, stream = (nbformat.v4.new_output(kind) for kind in ("display_data", "stream"))
    display.data = {"image/png": "", "application/vnd.jupyter.widget-view+json": {}}
    stream |= {"name": "stderr", "text": "<Thing at 0x7f00aa00bb00> in /home/somebody/x.py"}
    new = nbformat.v4.new_code_cell
    cells = [
        new("%%capture\n# NBVAL_IGNORE_OUTPUT", execution_count=1, id="a"),
        new("pass", execution_count=3, outputs=[display, stream], id="b"),
    ]
    cells[1].metadata.tags = ["nbval-skip"]
    wrong = nbformat.v4.new_notebook(cells=cells)
    assert list(wrong_code(wrong)) == [
        "a: hides what it prints",
        "b: not run in order",
        "b: skipped, or may fail",
        "a: its output is not compared, and its section asserts nothing",
    ]
    assert list(undescribed_pictures(wrong)) == ["b: alt text ''", "b: caption ''"]
    assert list(stored_by_mistake(wrong)) == [
        "b: a widget",
        "b: an error or a warning",
        "b:  at 0x7f00aa00bb00",
        "b: the path /home/...",
    ]
    assert len(list(missing_from_the_frame(wrong))) == 6


# --- Code to copy --------------------------------------------------------------------------------


def snippets() -> dict[str, str]:
    """Code that readers are told to copy: tagged cells, and Python blocks of the pages."""
    found = {
        f"{name}.ipynb {cell.id}": cell.source
        for name in NOTEBOOKS
        for cell in code_cells(name)
        if "snippet" in tags(cell)
    }
    for path in (ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)):
            found[f"{path.name} block {number}"] = block
    return found


SNIPPETS = snippets()


# Runs code alone: a child of an interpreter that has loaded the slow libraries, and nothing else.
SERVER = """
import json, os, sys
import gymnasium, keras, matplotlib.pyplot
for line in sys.stdin:
    code, folder = json.loads(line)
    if not (child := os.fork()):
        os.chdir(folder)
        said = os.open("said", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1), os.dup2(said, 2)
        exec(compile(code, "snippet", "exec"), {"__name__": "__main__"})
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def run_alone():
    """Run code in an empty folder and an interpreter without our package; its exit status."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=os.environ | {"MPLBACKEND": "Agg"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(code: str, folder: Path) -> int:
        process.stdin.write(json.dumps([code, str(folder)]) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield run
    process.communicate()


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_runs_alone(run_alone, name, tmp_path):
    assert run_alone(SNIPPETS[name], tmp_path) == 0, (tmp_path / "said").read_text()[-3000:]


def test_a_snippet_that_leans_on_another_does_not_run_alone(run_alone, tmp_path):
    ours = "import sys; assert 'dqnrec_lite' not in sys.modules"
    assert [run_alone(code, tmp_path) for code in (ours, "agent = 1", "agent + 1")] == [0, 0, 1]
    assert "NameError: name 'agent' is not defined" in (tmp_path / "said").read_text()


def test_the_page_of_snippets_shows_every_tagged_cell_once_and_says_where_it_is_explained():
    page = (ROOT / "book" / "snippets.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```\{snippet\} (\S+) (\S+)$", page, re.M)
    tagged = [name.split() for name in SNIPPETS if ".ipynb" in name]
    assert sorted(shown) == sorted((name.removesuffix(".ipynb"), cell) for name, cell in tagged)
    for section in page.split("\n### ")[1:]:
        [(number, chapter)] = re.findall(r"\{doc\}`Chapter (\d+) </notebooks/(\w+)>`", section)
        assert chapter in NOTEBOOKS
        assert int(number) == int(chapter[:2]), section
        assert len(re.findall(r"^```(?:python|\{snippet\})", section, re.M)) == 1, section


def test_a_changed_number_fails_with_notebook_and_cell_but_for_digits_after_about(tmp_path):
    printed = {"right": "42", "changed": "43", "near": "\u2248 41.3 [40, 43] euro"}
    printed["unit"] = "\u2248 42.0 pages"
    for stem, number in printed.items():
        code = (
            "print(six * 7)" if number.isdigit() else "print(f'\u2248 {six * 7:.1f} [41, 43] euro')"
        )
        cells = [
            nbformat.v4.new_markdown_cell("Six times seven."),
            nbformat.v4.new_code_cell("six = 6", execution_count=1),
            nbformat.v4.new_code_cell(
                code,
                execution_count=2,
                outputs=[nbformat.v4.new_output("stream", name="stdout", text=f"{number}\n")],
            ),
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{stem}.ipynb")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    result = subprocess.run(
        [*check.PYTEST, *check.NBVAL, "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 1, result.stdout
    assert "2 failed, 6 passed" in result.stdout
    assert "near.ipynb::" not in result.stdout
    assert "unit.ipynb::Cell 1" in result.stdout
    assert "changed.ipynb::Cell 1" in result.stdout
    assert "42" in result.stdout
    assert "43" in result.stdout


def test_the_dqn_of_chapter_1_is_one_block_to_copy_of_fewer_than_80_lines():
    """That it runs alone, `test_a_snippet_runs_alone` sees: it is a snippet."""
    cells = [c for c in code_cells("01_the_example") if c.source.startswith("# A DQN, whole")]
    [whole] = cells
    assert "snippet" in tags(whole)
    lines = [line for line in whole.source.splitlines() if line.strip()]
    assert 40 < len(lines) < 80
    algorithm = ("replay", "draw_batch", "target_network", "epsilon", "terminated", "env.step")
    assert [part for part in algorithm if part not in whole.source] == []
