"""Chapters that stand alone: one file, an empty folder, and only the libraries that Colab ships."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from types import SimpleNamespace

import colab
import nbformat
import pytest
import yaml
from jupyter_book.config import get_final_config
from sphinx_book import offer_lone_notebook

RUN = ("02_shop_as_mdp", "01_the_example", "08_target_network")  # the quickest
SHIPPED = {  # by Colab; cycler comes with Matplotlib, Keras and TensorBoard with TensorFlow
    "cycler", "gymnasium", "keras", "matplotlib", "numpy", "scipy", "tensorboard", "tensorflow",
    "tqdm",
}  # fmt: skip
each_notebook = pytest.mark.parametrize("path", colab.NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Run a new environment's Python, which has the libraries but not the book's package.

    PYTHONPATH names the folder in which this environment keeps its libraries. Python reads the
    .pth files of its own such folder only, and by one of those the package is installed here.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=os.name == "posix", with_pip=False)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    environment |= {"PYTHONPATH": sysconfig.get_path("purelib"), "PYTHONNOUSERSITE": "1"}

    def run(code: str, where: Path, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [python, "-", *arguments], input=code,
            cwd=where, env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    return {path.stem: path for path in colab.write_copies(folder)}


def code_cells(path: Path) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def printed(cell) -> str:
    return "".join(o.text for o in cell.outputs if o.get("name") == "stdout")


def test_without_its_package_a_chapter_says_what_to_do(bare, tmp_path):
    set_up = code_cells(colab.NOTEBOOKS[0])[0].source
    result = bare(set_up, tmp_path)
    assert result.returncode == 1
    assert "ModuleNotFoundError: dqnrec_lite is not here. Put its folder" in result.stderr


@pytest.mark.parametrize("name", RUN)
def test_a_lone_chapter_runs_and_prints_what_the_book_shows(bare, copies, tmp_path, name):
    lone = tmp_path / "lone.ipynb"
    lone.write_bytes(copies[name].read_bytes())
    run = "from nbclient.cli import main; main()"
    result = bare(run, tmp_path, "--inplace", "--timeout=300", lone.name)
    assert result.returncode == 0, result.stderr[-3000:]
    cells, stored = code_cells(lone), code_cells(copies[name])
    package = sorted(tmp_path.glob("dqnrec_lite/*.py"))
    assert printed(cells[0]) == f"dqnrec_lite: {len(package)} files are beside this notebook\n"
    for cell, shown in zip(cells[1:], stored[1:], strict=True):
        if "NBVAL_IGNORE_OUTPUT" not in cell.source:
            assert printed(cell) == printed(shown), cell.id


@each_notebook
def test_the_copy_writes_the_package_as_it_is_and_stands_before_the_set_up_cell(
    bare, copies, tmp_path, path
):
    unpack, set_up = code_cells(copies[path.stem])[:2]
    result = bare(unpack.source, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "differ" not in result.stdout
    modules = {file.name for file in colab.PACKAGE.glob("*.py")}
    written = {file.name: file.read_bytes() for file in tmp_path.glob("dqnrec_lite/*")}
    assert written == {name: (colab.PACKAGE / name).read_bytes() for name in written}
    assert modules <= set(written)
    assert set_up.source == code_cells(path)[0].source


@each_notebook
def test_the_stored_rows_travel_with_the_chapters_that_read_them(copies, path):
    reads = any(
        re.search(r"experiment_rows|experiments\.", cell.source) for cell in code_cells(path)
    )
    unpack = code_cells(copies[path.stem])[0].source
    assert reads == ("\nFILES[\"experiments.jsonl\"] = r'''\n" in unpack)


def test_a_file_that_is_there_already_is_left_and_named(bare, copies, tmp_path):
    unpack = code_cells(copies["00_quickstart"])[0].source
    (tmp_path / "dqnrec_lite").mkdir()
    own = tmp_path / "dqnrec_lite" / "agent.py"
    own.write_text("mine = 1\n")
    result = bare(unpack, tmp_path)
    assert result.stdout.endswith("differ from those in this cell: agent.py\n")
    assert own.read_text() == "mine = 1\n"
    assert (tmp_path / "dqnrec_lite" / "shop.py").is_file()


@each_notebook
def test_a_copy_reads_well_without_the_book(copies, path):
    for cell in nbformat.read(copies[path.stem], as_version=4).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"\{[\w:]+\}`|^\([\w-]+\)=", cell.source, re.M), cell.id
            links = re.findall(r"\]\(([^)]*)\)", cell.source)
            assert [link for link in links if link.endswith(".ipynb")] == [], cell.id


@pytest.mark.parametrize(
    ("text", "plainly"),
    [
        ("(ch01-a)=\n## Title", "## Title"),
        ("{doc}`the notation </book/notation>`", "the notation"),
        ("a {term}`replay buffer`, {ref}`E21 <errata-e21>`", "a replay buffer, E21"),
        ("{eq}`ch02-markov` {cite}`ross1983,bellman1957`", "(ch02-markov) [ross1983,bellman1957]"),
        ("[Chapter 2](02_shop.ipynb) [so](https://a.org)", "Chapter 2 [so](https://a.org)"),
    ],
)  # fmt: skip
def test_roles_and_links_to_other_chapters_become_plain_text(text, plainly):
    assert colab.plain(text) == plainly


@pytest.mark.parametrize("text", ["quotes = '''\n'''\n", "no line break", "carriage\r\nreturn\n"])
def test_a_file_that_cannot_stand_between_the_quotes_is_refused(monkeypatch, tmp_path, text):
    (tmp_path / "module.py").write_bytes(text.encode())
    monkeypatch.setattr(colab, "PACKAGE", tmp_path)
    with pytest.raises(ValueError, match=r"module\.py: lines that end"):
        colab.unpack_cell(with_data=False)


def imported(source: str) -> set[str]:
    """Top-level packages that a source imports."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names}


def test_chapters_and_package_import_nothing_that_colab_does_not_ship():
    sources = [file.read_text(encoding="utf-8") for file in colab.PACKAGE.glob("*.py")]
    sources += [cell.source for path in colab.NOTEBOOKS for cell in code_cells(path)]
    found = set().union(*map(imported, sources)) - sys.stdlib_module_names - {"dqnrec_lite"}
    assert found <= SHIPPED
    assert {"gymnasium", "numpy", "tensorflow"} <= found  # the check sees imports at all
    assert imported("import nbformat.v4\nfrom pandas import Series") == {"nbformat", "pandas"}


# --- The links on the pages ----------------------------------------------------------------------


def chapter_page(repository: str, page: str = "notebooks/02_shop") -> str:
    """A page's text as the extension leaves it, with this address in _config.yml."""
    settings = yaml.safe_load((colab.ROOT / "_config.yml").read_text())
    settings["repository"]["url"] = repository
    sphinx, _ = get_final_config(user_yaml=settings, cli_config={"latex_individualpages": False})
    app = SimpleNamespace(config=SimpleNamespace(**sphinx))
    context = {
        "body": "<h1>The shop</h1><p>Who acts?</p><h1>Appendix</h1>",
        "pathto": lambda address, resource: f"../{address}",
    }
    offer_lone_notebook(app, page, "page.html", context, None)
    return context["body"]


ADDRESS = "https://github.com/owner/book"


@pytest.mark.parametrize("repository", [ADDRESS, ADDRESS + "/", ADDRESS + ".git"])
def test_with_an_address_on_github_a_chapter_offers_colab_its_copy(repository):
    body = chapter_page(repository)
    assert body.startswith('<h1>The shop</h1>\n<p class="lone-notebook">')
    assert re.findall('href="([^"]*)"', body) == [
        "../colab/02_shop.ipynb",
        "https://colab.research.google.com/github/owner/book/blob/gh-pages/colab/02_shop.ipynb",
    ]


@pytest.mark.parametrize("repository", ["", "https://example.org/owner/book", "owner/book"])
def test_without_an_address_that_colab_can_open_there_is_the_download_alone(repository):
    assert re.findall('href="([^"]*)"', chapter_page(repository)) == ["../colab/02_shop.ipynb"]


def test_a_page_that_is_no_chapter_offers_nothing():
    assert "href" not in chapter_page(ADDRESS, "book/faq")
