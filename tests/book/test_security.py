"""What a reader runs or opens can do no more than it shows: no pickle, no hidden script or cell."""

import ast
import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import gymnasium as gym
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output, new_raw_cell

from dqnrec_lite import DQN, DQNConfig
from notebooks import PROMPTS, is_folded

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCRIPTS = [path for folder in ("dqnrec_lite", "tools") for path in (ROOT / folder).rglob("*.py")]

# --- Nothing is unpickled ------------------------------------------------------------------------


def unsafe(source: str) -> list[str]:
    """Where Python source could run what a file holds, as far as ruff's rules do not see it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("numpy", "keras.saving"):
            found += [f"imports {a.name} bare" for a in node.names if a.name.startswith("load")]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            least = {"allow_pickle": None} if name in ("np.load", "numpy.load") else {}
            if (least | options).get("allow_pickle", "False") != "False":
                found.append(f"line {node.lineno}: {name} without allow_pickle=False")
            if options.get("safe_mode", "True") != "True" or "unsafe_des" in name:
                found.append(f"line {node.lineno}: {name} loads Python code")
    return found


def sources() -> dict[str, str]:
    """All code that is run: of the package, its tools, and the notebooks' cells."""
    found = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in SCRIPTS}
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                source = re.sub(r"(?m)^\s*[%!].*$", "", cell.source)
                found[f"{path.name} {cell.id}"] = source
    return found


def test_no_code_loads_more_than_data():
    assert {where: found for where, text in sources().items() if (found := unsafe(text))} == {}


def test_the_check_finds_code_that_loads_more_than_data():
    for source in [
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "from numpy import load",
        "np.lib.format.read_array(file, allow_pickle=True)",
        "keras.models.load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
    ]:
        assert unsafe(source), source
    assert not unsafe("import json\nnp.load(path, allow_pickle=False)\njson.loads(text)")
    assert not unsafe("keras.models.load_model(path, safe_mode=True)\nDQN.load(folder)")


@pytest.mark.parametrize("where", ["dqnrec_lite/module.py", "notebooks/chapter.ipynb"])
def test_ruff_refuses_code_that_runs_what_it_reads(where):
    lines = ["import pickle", "import dill", "from joblib import load", "import marshal"]
    lines += ["import pandas; pandas.read_pickle(path)", "import yaml; yaml.load(text)"]
    lines += ["eval(text)", "exec(text)"]
    text = "\n".join(lines)
    if where.endswith(".ipynb"):
        text = nbformat.writes(nbformat.v4.new_notebook(cells=[new_code_cell(text)]))
    command = [sys.executable, "-m", "ruff", "check", "--stdin-filename", where, "-"]
    options = ["--output-format", "json", "--no-cache"]
    result = subprocess.run(
        [*command, *options], input=text, capture_output=True, text=True, cwd=ROOT
    )
    named = [(fault["code"], fault["location"]["row"]) for fault in json.loads(result.stdout)]
    refused = {row for code, row in named if code.startswith(("S1", "S3", "S5", "TID"))}
    assert refused == set(range(1, len(lines) + 1)), named


class Touch:
    """Unpickled, it makes a file: the trace of code that ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("entry", ["state", "low", "variable_0", "replay_reward"])
def test_a_saved_agent_that_holds_a_python_object_is_refused_and_the_object_does_not_run(
    entry, tmp_path
):
    box, actions = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    DQN(box, actions, DQNConfig(buffer_size=10, batch_size=2, learning_starts=2)).save(tmp_path)
    path, trace = tmp_path / "agent.npz", tmp_path / "trace"
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {entry: np.array([Touch(trace)], object)}))
    with pytest.raises(ValueError, match=r"agent\.npz: damaged.*Object arrays cannot be loaded"):
        DQN.load(tmp_path)
    assert not trace.exists()
    with np.load(path, allow_pickle=True) as file:  # the trap is a real one
        file[entry]
    assert trace.exists()


# --- Notebooks show all that they do -------------------------------------------------------------

KINDS = {"text/plain", "image/png"}  # nothing that a browser would run
TAGS = {
    "hide-cell",
    "hide-input",
    "nbval-ignore-output",
    "snippet",
}  # CONTRIBUTING.md says what each does
LOADERS = {"script", "iframe", "object", "embed", "link", "meta", "base", "form", "style", "svg"}
ADDRESSES = re.compile(r"\s*(javascript|vbscript|data:(?!image/(png|jpeg)))", re.I)


class Finder(HTMLParser):
    """Collects what a browser would run or fetch; entities in attributes come decoded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found += [f"<{tag}>"] if tag in LOADERS else []
        for name, value in attrs:
            if name.startswith("on") or name == "srcdoc" or ADDRESSES.match(value or ""):
                self.found.append(f"<{tag} {name}={value}>")


def hidden(cell) -> list[str]:
    """What a cell would do or conceal without the reader seeing it in its source."""
    found = [] if cell.cell_type in ("code", "markdown") else [f"a {cell.cell_type} cell"]
    # A fold stands in the metadata twice, and is a tag; its prompt is the first line of the cell.
    folds = is_folded(cell)
    known = {"tags", "mystnb", *(("jupyter",) if folds else ())}
    found += [f"metadata {key}" for key in set(cell.metadata) - known]
    known = {"image", "figure", *(PROMPTS if folds else ())}
    found += [f"mystnb {key}" for key in set(cell.metadata.get("mystnb", {})) - known]
    found += [f"tag {tag}" for tag in set(cell.metadata.get("tags", [])) - TAGS]
    found += ["an attachment"] if cell.get("attachments") else []
    texts = [cell.source] if cell.cell_type == "markdown" else []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        found += [f"an output of kind {kind}" for kind in set(data) - KINDS]
        found += [f"output metadata {key}" for key in output.get("metadata", {})]
        if "image/png" in data and not base64.b64decode(data["image/png"]).startswith(b"\x89PNG"):
            found.append("a picture that is none")
        parts = (output.get("text"), output.get("traceback"), *data.values())
        texts += ["".join(part) for part in parts if part]
    for text in texts:
        found += Finder(text).found
        found += ["<script"] if re.search(r"<\s*script", text, re.I) else []
    return found


def test_no_cell_hides_a_script_a_widget_or_code():
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        assert set(notebook.metadata) == {"kernelspec", "language_info"}, path.name
        faults = {cell.id: found for cell in notebook.cells if (found := hidden(cell))}
        assert faults == {}, path.name


def shown(**data):
    return new_code_cell("x", outputs=[new_output("display_data", data)])


def printed(text):
    return new_code_cell("x", outputs=[new_output("stream", name="stdout", text=text)])


def test_the_check_finds_what_is_hidden():
    for cell in [
        shown(**{"text/html": "<b>bold</b>"}),
        shown(**{"application/javascript": "alert(1)"}),
        shown(**{"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}),
        shown(**{"image/svg+xml": "<svg onload='alert(1)'></svg>"}),
        shown(**{"text/plain": "<SCRIPT src='https://example.com/x.js'>"}),
        shown(**{"image/png": base64.b64encode(b"<html>").decode()}),
        printed("< script>alert(1)</script>"),
        printed("<img src=x onerror=alert(1)>"),
        printed("<iframe src='page.html'></iframe>"),
        printed("<a href='java&#115;cript:alert(1)'>"),
        printed("<a href='data:text/html,<p>'>"),
        printed("<p srcdoc='x'>"),
        new_code_cell("x", outputs=[new_output("display_data", {}, metadata={"isolated": True})]),
        new_code_cell("x", outputs=[new_output("error", traceback=["<script>"])]),
        new_markdown_cell("Text <script>alert(1)</script>"),
        new_markdown_cell("Text", attachments={"a.png": {"image/png": "AAAA"}}),
        new_raw_cell("<script>"),
        new_code_cell("x", metadata={"tags": ["remove-input"]}),
        new_code_cell("x", metadata={"tags": ["hide-output"]}),
        new_code_cell("x", metadata={"jupyter": {"source_hidden": True}}),
        new_code_cell("x", metadata={"collapsed": True}),
        new_code_cell("x", metadata={"mystnb": {"remove_code_source": True}}),
    ]:
        assert hidden(cell), cell


def test_the_check_lets_what_a_notebook_shows_pass():
    assert not hidden(printed("2 < 3, on = 1, <Figure size 640x480 with 1 Axes>"))
    assert not hidden(new_code_cell("x", metadata={"tags": sorted(TAGS)}))
