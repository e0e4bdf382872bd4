"""What the sources point to outside the book: every address, DOI and arXiv number has a right form.

No test asks another host. An address of a host that is not listed here fails until somebody has
opened it and says why the book needs it. Commands for the shell are checked in form too.
"""

import ast
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIBLIOGRAPHY = ROOT / "book" / "references.bib"
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "book").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCRIPTS = [path for folder in ("dqnrec_lite", "tools") for path in (ROOT / folder).rglob("*.py")]
SETTINGS = [ROOT / name for name in ("CITATION.cff", "_config.yml", "pyproject.toml")]
# The book's own address, as soon as it has one; _config.yml says where it is set.
OWN = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]

HOSTS = {
    "creativecommons.org": "the licence of the prose",
    "deepmind.com": "further reading: recorded lectures",
    "farama.org": "cited: how vector environments restart",
    "github.com": "cited: code and reports; outside the bibliography the book's own only",
    "gymnasium.farama.org": "the interface of environments; cited: time limits",
    "huggingface.co": "further reading: a course",
    "openai.com": "cited: Baselines' DQN",
    "spinningup.openai.com": "cited: Spinning Up",
    "www.tensorflow.org": "cited: TF-Agents",
}
ADDRESS = re.compile(r"\b[a-z]+://[^\s<>\"'`{}\\|\]]+", re.I)
DOI = re.compile(r"10\.\d{4,9}/[\w.;()/:-]*[\w)]")
ARXIV = re.compile(r"(0[7-9]|1[0-4])(0[1-9]|1[0-2])\.\d{4}|(1[5-9]|2\d)(0[1-9]|1[0-2])\.\d{5}")


def text_of(path: Path) -> str:
    """What a reader of the source meets: for Python the docstrings, for a notebook its cells."""
    if path.suffix == ".ipynb":
        return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
        return "\n\n".join(ast.get_docstring(node) or "" for node in nodes)
    return text


def links_in(text: str) -> list[str]:
    """Addresses as they stand; "doi:..." and "arXiv:..." with whatever follows."""
    found = ADDRESS.findall(text) + re.findall(r"\b(?:doi|arXiv):\S+", text, re.I)
    found += [f"doi:{doi}" for doi in re.findall(r"^\s*doi\s*=\s*\{(.*?)\}", text, re.M)]
    found += [f"arXiv:{number}" for number in re.findall(r"^\s*eprint\s*=\s*\{(.*?)\}", text, re.M)]
    ends = (re.sub(r"[.,;:*`}]+$", "", link) for link in found)
    return sorted({end if "(" in end else end.split(")")[0] for end in ends})


def fault(link: str, where: str) -> str | None:
    """What is wrong with a link that stands in the file `where`; None if nothing is."""
    kind, _, rest = link.partition(":")
    if kind.lower() == "doi":
        return None if DOI.fullmatch(rest) else "no DOI"
    if kind.lower() == "arxiv":
        return None if ARXIV.fullmatch(rest) else "no arXiv number"
    parts = urlsplit(link)
    if parts.scheme != "https":
        return f"{parts.scheme}, where https is expected"
    if parts.netloc not in HOSTS:
        return f"{parts.netloc} is not among the known hosts"
    own = bool(OWN) and link.startswith(OWN)
    if parts.netloc == "github.com" and where != BIBLIOGRAPHY.name and not own:
        return "an address on GitHub that is neither cited nor the book's own"
    return None


LINKS = [
    (path.name, link)
    for path in [*PAGES, BIBLIOGRAPHY, *NOTEBOOKS, *SCRIPTS, *SETTINGS]
    for link in links_in(text_of(path))
]


def test_every_link_to_another_host_has_a_right_form():
    assert len(LINKS) > 50
    wrong = [
        f"{where}: {link}: {fault(link, where)}" for where, link in LINKS if fault(link, where)
    ]
    assert wrong == []


def test_every_known_host_is_linked_to():
    assert {urlsplit(link).netloc for _, link in LINKS} - {""} == set(HOSTS)


def test_what_a_docstring_cites_by_number_stands_in_the_bibliography():
    names = {path.name for path in SCRIPTS}
    cited = {link for where, link in LINKS if where in names and "//" not in link}
    assert cited
    assert cited <= {link for where, link in LINKS if where == BIBLIOGRAPHY.name}


def test_a_link_of_a_wrong_form_is_found():
    for text in [
        "see http://gymnasium.farama.org",
        "see [here](https://example.org/page).",
        "[source](https://github.com/someone/deep-q-shop)",
        "<https://gymnasium.farama.org:8080>",
        "doi:11.1038/nature14236",
        "doi:10.1038",
        "  doi = {https://doi.org/10.1038/nature14236},",
        "arXiv:1513.06461",
        "arXiv:1509.6461",
        "  eprint = {hep-th/9901001},",
    ]:
        assert [link for link in links_in(text) if fault(link, "page.md")], text


def test_a_link_of_a_right_form_is_read_whole():
    for text, whole in {
        "([Gymnasium](https://gymnasium.farama.org)).": "https://gymnasium.farama.org",
        "(Hesterberg, doi:10.1080/00031305.2015.1089789).": "doi:10.1080/00031305.2015.1089789",
        "equation 9 (arXiv:1511.06581), and": "arXiv:1511.06581",
        "  doi = {10.1016/S0004-3702(98)00023-X},": "doi:10.1016/S0004-3702(98)00023-X",
        "  eprint  = {0902.2206},": "arXiv:0902.2206",
    }.items():
        assert links_in(text) == [whole]
        assert fault(whole, "page.md") is None


# --- Commands ------------------------------------------------------------------------------------

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
BLOCKS = [
    (path.name, language, block)
    for path in PAGES
    for language, block in re.findall(r"^```([a-z]+)\n(.*?)^```", text_of(path), re.M | re.S)
]


def test_a_block_of_code_is_python_or_for_the_shell():
    assert {language for _, language, _ in BLOCKS} <= {"python", "sh", "console"}


def wrong_commands(language: str, block: str) -> list[str]:
    """Lines of a block for the shell that a reader cannot give as they stand."""
    lines = block.splitlines()
    wrong = []
    if language == "console":
        wrong = [line for line in lines if not line.startswith("$ ")]
        lines = [line.removeprefix("$ ") for line in lines]
    shell = subprocess.run(["sh", "-n"], input="\n".join(lines), text=True, capture_output=True)
    wrong += [shell.stderr] if shell.returncode else []
    for line in lines:
        command = [*line.split("#")[0].split(), "", ""]
        known = " ".join(command[:3]).strip() in ("sudo apt install", "pip install .")
        if not known and not (command[0] == "make" and command[1] in TARGETS):
            wrong.append(line)
    return wrong


def test_a_block_for_the_shell_holds_commands_that_a_reader_can_give():
    blocks = [block for block in BLOCKS if block[1] != "python"]
    assert len(blocks) >= 3
    wrong = {where: wrong_commands(language, block) for where, language, block in blocks}
    assert {where: lines for where, lines in wrong.items() if lines} == {}


def test_a_command_that_a_reader_cannot_give_is_found():
    assert wrong_commands("sh", "make nothing") == ["make nothing"]
    assert wrong_commands("sh", "rm -r x") == ["rm -r x"]
    assert wrong_commands("console", "make book") == ["make book"]
    assert wrong_commands("sh", "make book; (")
    assert wrong_commands("console", "$ make book  # a minute") == []


def test_every_make_command_that_is_named_exists():
    pattern = r"`(?:\w+=\S+ )?make ([a-z-]+)"
    named = {path.name: set(re.findall(pattern, text_of(path))) for path in [*PAGES, *NOTEBOOKS]}
    assert "book" in named["README.md"]
    assert {name: found - TARGETS for name, found in named.items() if found - TARGETS} == {}
