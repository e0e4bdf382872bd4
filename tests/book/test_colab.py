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

RUN = "02_shop_as_mdp"  # the quickest
SHIPPED = {  # by Colab; cycler comes with Matplotlib, Keras and TensorBoard with TensorFlow
    "cycler", "gymnasium", "keras", "matplotlib", "numpy", "scipy", "tensorboard", "tensorflow",
    "tqdm",
}  # fmt: skip


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
            cwd=where, env=environment, capture_output=True, text=True, timeout=3600,
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


def test_a_lone_chapter_runs_and_prints_what_the_book_shows(bare, copies, tmp_path):
    lone = tmp_path / "lone.ipynb"
    lone.write_bytes(copies[RUN].read_bytes())
    run = "from nbclient.cli import main; main()"
    result = bare(run, tmp_path, "--inplace", "--timeout=1200", lone.name)
    assert result.returncode == 0, result.stderr[-3000:]
    cells, stored = code_cells(lone), code_cells(copies[RUN])
    files = len(written_in(tmp_path))
    assert printed(cells[0]) == f"dqnrec_lite: {files} files are beside this notebook\n"
    for cell, shown in zip(cells[1:], stored[1:], strict=True):
        ignored = "nbval-ignore-output" in cell.metadata.get("tags", [])
        if not ignored and "NBVAL_IGNORE_OUTPUT" not in cell.source:
            assert printed(cell) == printed(shown), cell.id


def written_in(folder: Path) -> dict[str, bytes]:
    """The files below `dqnrec_lite` where a copy wrote its package, compiled ones left out."""
    package = folder / "dqnrec_lite"
    files = (path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in files}


def test_a_copy_writes_the_package_as_it_is_and_only_the_rows_of_studies_that_it_names(
    bare, copies, tmp_path
):
    modules = {path.relative_to(colab.PACKAGE).as_posix() for path in colab.PACKAGE.rglob("*.py")}
    assert {"__init__.py", "envs/__init__.py", "studies/__init__.py"} <= modules
    carried = {}
    for path in colab.NOTEBOOKS:
        folder = tmp_path / path.stem
        folder.mkdir()
        unpack, set_up = code_cells(copies[path.stem])[:2]
        result = bare(unpack.source, folder)
        assert result.returncode == 0, result.stderr
        assert "differ" not in result.stdout
        written = written_in(folder)
        assert written == {name: (colab.PACKAGE / name).read_bytes() for name in written}
        assert modules <= set(written), path.stem
        assert set_up.source == code_cells(path)[0].source.replace("# ", "# @title ", 1)
        carried[path.stem] = {Path(name).stem for name in set(written) - modules}
    assert carried["02_shop_as_mdp"] == set()
    assert carried["06_q_network"] == {"loss"}
    assert carried["09_training"] >= {"shop", "epsilon", "pocket"}
    assert carried["08_target_network"] == {"loss"}


def test_the_studies_of_a_notebook_are_those_whose_names_it_quotes():
    def names(code: str) -> list[str]:
        return [path.stem for path in colab.studies_in(code)]

    assert names('studies.rows("shop", "DQN")') == ["shop"]
    assert names("for name in ('loss', 'acrobot'):\n    studies.rows(name)") == ["acrobot", "loss"]
    assert names('DQNConfig(loss="huber")["loss"]') == []


def test_with_only_what_a_copy_carries_an_agent_learns_and_rows_are_read(bare, copies, tmp_path):
    unpack, set_up = code_cells(copies["13_elsewhere"])[:2]
    code = """
import gymnasium as gym
from dqnrec_lite import DQN, DQNConfig, evaluate, plotting, studies
envs = gym.make_vec("CartPole-v1", num_envs=4)
agent = DQN(envs.single_observation_space, envs.single_action_space, DQNConfig(batch_size=8))
agent.learn(envs, 2000)
agent.save("agent")
evaluate(DQN.load("agent").predict, envs, 4)
print(agent.updates, len(studies.rows("cartpole", "DQN")))
"""
    result = bare("\n".join([unpack.source, set_up.source, code]), tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.endswith("480 10\n")


def test_a_copy_that_lacks_its_rows_says_which(bare, tmp_path):
    unpack = colab.unpack_cell('studies.rows("loss")')
    code = f'{unpack.source}\nfrom dqnrec_lite import studies\nstudies.rows("shop")'
    result = bare(code, tmp_path)
    assert result.returncode == 1
    assert "ValueError: no stored rows of study='shop'; there are loss" in result.stderr


def test_a_file_that_is_there_already_is_left_and_named(bare, copies, tmp_path):
    unpack = code_cells(copies["00_quickstart"])[0].source
    own = tmp_path / "dqnrec_lite" / "envs" / "shop.py"
    own.parent.mkdir(parents=True)
    own.write_text("mine = 1\n")
    result = bare(unpack, tmp_path)
    assert result.stdout.endswith("differ from those in this cell: envs/shop.py\n")
    assert own.read_text() == "mine = 1\n"
    assert (tmp_path / "dqnrec_lite" / "replay.py").is_file()


def test_what_the_book_folds_is_folded_in_colab_with_a_title(copies):
    for path in copies.values():
        for cell in code_cells(path):
            folded = bool({"hide-cell", "hide-input"} & set(cell.metadata.get("tags", [])))
            is_form = cell.metadata.get("cellView") == "form"
            assert (
                is_form == cell.source.startswith("# @title ") == (folded or cell.id == "package")
            )


def test_a_copy_reads_well_without_the_book(copies):
    odd = []
    for path in copies.values():
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                odd += re.findall(r"\{[\w:]+\}`|^\([\w-]+\)=", cell.source, re.M)
                odd += [
                    a for a in re.findall(r"\]\(([^)]*)\)", cell.source) if a.endswith(".ipynb")
                ]
    assert odd == []


def test_roles_and_links_to_other_chapters_become_plain_text():
    for text, plainly in {
        "(ch01-a)=\n## Title": "## Title",
        "{doc}`the notation </book/notation>`": "the notation",
        "a {term}`replay buffer`, {ref}`E21 <errata-e21>`": "a replay buffer, E21",
        "{eq}`ch02-markov` {cite}`ross1983,bellman1957`": "(ch02-markov) [ross1983,bellman1957]",
        "[Chapter 2](02_shop.ipynb) [so](https://a.org)": "Chapter 2 [so](https://a.org)",
    }.items():
        assert colab.plain(text) == plainly


def test_a_file_that_cannot_stand_between_the_quotes_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(colab, "PACKAGE", tmp_path)
    for text in ("quotes = '''\n'''\n", "no line break", "carriage\r\nreturn\n"):
        (tmp_path / "module.py").write_bytes(text.encode())
        with pytest.raises(ValueError, match=r"module\.py: lines that end"):
            colab.unpack_cell("")


def imported(source: str) -> set[str]:
    """Top-level packages that a source imports."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names}


def test_chapters_and_package_import_nothing_that_colab_does_not_ship():
    sources = [file.read_text(encoding="utf-8") for file in colab.PACKAGE.rglob("*.py")]
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


def test_with_an_address_on_github_a_chapter_offers_colab_its_copy():
    for repository in (ADDRESS, ADDRESS + "/", ADDRESS + ".git"):
        body = chapter_page(repository)
        assert body.startswith('<h1>The shop</h1>\n<p class="lone-notebook">')
        assert re.findall('href="([^"]*)"', body) == [
            "../colab/02_shop.ipynb",
            "https://colab.research.google.com/github/owner/book/blob/gh-pages/colab/02_shop.ipynb",
        ]


def test_without_an_address_that_colab_can_open_there_is_the_download_alone():
    for repository in ("", "https://example.org/owner/book", "owner/book"):
        assert re.findall('href="([^"]*)"', chapter_page(repository)) == ["../colab/02_shop.ipynb"]


def test_a_page_that_is_no_chapter_offers_nothing():
    assert "href" not in chapter_page(ADDRESS, "book/faq")
