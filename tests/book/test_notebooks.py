"""The notebooks' conventions. That their outputs are right is nbval's part, in the same run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import notebooks

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in PATHS}
ABSOLUTE = re.compile(r"(?<![\w./])/(?:home|root|tmp|work|Users|usr|var)/")
each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def code_cells(name: str) -> list:
    return [cell for cell in NOTEBOOKS[name].cells if cell.cell_type == "code"]


def outputs(name: str):
    """(cell's id, output) of every stored output."""
    return [(cell.id, output) for cell in code_cells(name) for output in cell.outputs]


def fresh_python(code: str, folder: Path) -> subprocess.CompletedProcess:
    """Run code alone in a new interpreter and an empty folder."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_all_notebooks_are_in_the_normal_form_that_make_notebooks_writes():
    command = [sys.executable, str(ROOT / "tools" / "notebooks.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_table_of_contents_and_the_folder_list_the_same_notebooks_in_order():
    listed = re.findall(r"^\s*-?\s*file:\s*notebooks/(\S+)", (ROOT / "_toc.yml").read_text(), re.M)
    assert [name.removesuffix(".ipynb") for name in listed] == list(NOTEBOOKS)


def test_every_notebook_has_the_same_set_up_cell():
    first = {name: code_cells(name)[0].source for name in NOTEBOOKS}
    assert len(set(first.values())) == 1, f"unlike set-up cells in {list(first)}"
    assert "dqnrec_lite" in next(iter(first.values()))


@each_notebook
def test_the_first_cell_says_what_one_learns_what_one_needs_and_how_long_it_takes(name):
    cell = NOTEBOOKS[name].cells[0]
    assert cell.cell_type == "markdown"
    assert cell.source.startswith("# ")
    for heading in ("What you will learn", "What you need", "Run time"):
        assert heading in cell.source


# --- Run times -----------------------------------------------------------------------------------

SECONDS = json.loads(notebooks.TIMES.read_text(encoding="utf-8"))["seconds"]
STATED = re.compile(r"\*\*Run time\.\*\* (About|Under) (?:a|(\d+)) (second|minute)s? on two cores")


def test_every_notebook_has_a_run_time_and_together_they_take_less_than_20_minutes():
    assert list(SECONDS) == list(NOTEBOOKS)
    assert all(isinstance(took, int) for took in SECONDS.values())
    assert sum(SECONDS.values()) < 20 * 60


@each_notebook
def test_a_notebook_takes_as_long_as_its_first_cell_says_and_under_two_minutes(name):
    """Two cores took so long once: nothing is timed here, however slow or busy the machine is."""
    stated = STATED.search(NOTEBOOKS[name].cells[0].source)
    assert stated, "write: **Run time.** About 40 seconds on two cores. (or: Under a minute on ...)"
    seconds = int(stated[2] or 1) * (60 if stated[3] == "minute" else 1)
    least, most = (0.5 * seconds, 1.5 * seconds) if stated[1] == "About" else (0, seconds)
    assert least <= SECONDS[name] <= min(most, 120)


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


@each_notebook
def test_it_closes_with_key_ideas_exercises_with_folded_solutions_and_references(name):
    text = "\n".join(cell.source for cell in NOTEBOOKS[name].cells if cell.cell_type == "markdown")
    places = [text.find(f"## {part}") for part in ("Key ideas", "Exercises", "References")]
    assert -1 not in places
    assert places == sorted(places)
    assert any("hide-cell" in cell.metadata.get("tags", []) for cell in code_cells(name)) or (
        "dropdown" in text
    )


@each_notebook
def test_code_cells_are_short(name):
    long = {cell.id: cell.source.count("\n") + 1 for cell in code_cells(name)}
    assert {key: lines for key, lines in long.items() if lines > 25} == {}


@each_notebook
def test_every_code_cell_was_run_in_order_and_none_is_skipped(name):
    counts = [cell.execution_count for cell in code_cells(name)]
    assert counts == list(range(1, len(counts) + 1))
    for cell in code_cells(name):
        assert "NBVAL_SKIP" not in cell.source, cell.id
        assert "nbval-skip" not in cell.metadata.get("tags", []), cell.id
        assert not cell.source.startswith("%%capture"), cell.id
        assert "raises-exception" not in cell.metadata.get("tags", []), cell.id


@each_notebook
def test_a_cell_whose_output_is_not_compared_is_followed_by_one_that_asserts(name):
    cells = code_cells(name)
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        if is_ignored(cell):
            assert following is not None, f"{cell.id} is the last"
            assert re.search(r"^\s*assert\b", following.source, re.M), following.id


def is_ignored(cell) -> bool:
    tags = cell.metadata.get("tags", [])
    return "NBVAL_IGNORE_OUTPUT" in cell.source or "nbval-ignore-output" in tags


def test_at_most_one_cell_in_twenty_is_not_compared():
    cells = [cell for name in NOTEBOOKS for cell in code_cells(name)]
    assert sum(map(is_ignored, cells)) <= 0.05 * len(cells)


@each_notebook
def test_every_picture_says_in_words_what_it_shows(name):
    for cell in code_cells(name):
        if any(kind.startswith("image/") for o in cell.outputs for kind in o.get("data", {})):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt.split()) >= 12, f"{cell.id}: alt text {alt!r}"
            assert not re.match(r"(an? |the )?(picture|image|figure|plot|graph)\b", alt, re.I), alt
            caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
            assert len(caption.split()) >= 5, f"{cell.id}: caption {caption!r}"
            assert alt != caption, f"{cell.id}: the alt text says what the caption says"
    for cell in NOTEBOOKS[name].cells:
        if cell.cell_type == "markdown":
            assert "![](" not in cell.source, f"{cell.id}: a picture without alt text"


def test_no_two_pictures_are_described_alike():
    images = [
        c.metadata.get("mystnb", {}).get("image", {}) for n in NOTEBOOKS for c in code_cells(n)
    ]
    alts = [image["alt"] for image in images if image]
    assert len(alts) > 40
    assert len(set(alts)) == len(alts)


@each_notebook
def test_no_error_warning_progress_bar_or_address_is_stored(name):
    for where, output in outputs(name):
        assert output.output_type != "error", where
        assert output.get("name") != "stderr", where
        kinds = output.get("data", {})
        assert "application/vnd.jupyter.widget-view+json" not in kinds, where
        text = output.get("text", "") + str(kinds.get("text/plain", ""))
        assert not re.search(r" at 0x[0-9a-f]{6,}", text), f"{where}: {text}"


@each_notebook
def test_no_path_of_the_machine_that_ran_it_is_stored(name):
    for cell in NOTEBOOKS[name].cells:
        assert not ABSOLUTE.search(cell.source), cell.id
    for where, output in outputs(name):
        text = output.get("text", "") + "".join(
            str(content) for kind, content in output.get("data", {}).items() if "image" not in kind
        )
        assert not ABSOLUTE.search(text), where


def snippets() -> dict[str, str]:
    """Code that readers are told to copy: tagged cells, and Python blocks of the pages."""
    found = {
        f"{name}.ipynb {cell.id}": cell.source
        for name in NOTEBOOKS
        for cell in code_cells(name)
        if "snippet" in cell.metadata.get("tags", [])
    }
    for path in (ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)):
            found[f"{path.name} block {number}"] = block
    return found


SNIPPETS = snippets()


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_runs_alone_in_a_fresh_interpreter(name, tmp_path):
    result = fresh_python(SNIPPETS[name], tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]


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


def test_a_changed_number_fails_and_the_message_names_notebook_and_cell(tmp_path):
    for stem, number in (("right", 42), ("changed", 43)):
        cells = [
            nbformat.v4.new_markdown_cell("Six times seven."),
            nbformat.v4.new_code_cell("six = 6", execution_count=1),
            nbformat.v4.new_code_cell(
                "print(six * 7)",
                execution_count=2,
                outputs=[nbformat.v4.new_output("stream", name="stdout", text=f"{number}\n")],
            ),
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{stem}.ipynb")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--nbval",
            "--nbval-current-env",
            "-p",
            "no:cacheprovider",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 1, result.stdout
    assert "1 failed, 3 passed" in result.stdout
    assert "changed.ipynb::Cell 1" in result.stdout
    assert "42" in result.stdout
    assert "43" in result.stdout


def test_the_smallest_dqn_of_chapter_1_has_fewer_than_60_lines():
    sources = [cell.source for cell in code_cells("01_the_example")]
    parts = [source for source in sources if source.startswith("# The smallest DQN, part")]
    lines = [line for part in parts for line in part.splitlines() if line.strip()]
    assert len(parts) == 3
    assert 40 < len(lines) < 60
