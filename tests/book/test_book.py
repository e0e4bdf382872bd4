"""The built pages: complete, their links whole, and without anything from another host."""

import json
import os
import re
from collections.abc import Callable, Iterable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from colab import stand_alone
from speed_tables import DATA, TABLES
from sphinx_book import EVERYDAY, PLAIN_PAGES, uses_of

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
CONFIG = HTML.parents[1] / "_config.yml"
# The themes' own templates lie among the static files. Listings of our source are Sphinx's work.
NO_PAGES = {"_static", "_modules"}
PAGES = sorted(path for path in HTML.rglob("*.html") if not NO_PAGES & set(path.parts))
CHAPTERS = [path for path in PAGES if path.parent.name == "notebooks"]
# Elements that make a browser fetch something, and the attribute that says what.
FETCHED = {
    "script": ("src",), "img": ("src", "srcset"), "iframe": ("src",), "source": ("src", "srcset"),
    "video": ("src", "poster"), "audio": ("src",), "embed": ("src",), "object": ("data",),
    "image": ("href", "xlink:href"), "use": ("href", "xlink:href"),
}  # fmt: skip
# Where a glossary term is never made a link.
NO_PROSE = {"a", "code", "pre", "th", "dt", "figcaption", "h1", "h2", "h3", "h4", "h5", "h6"}
NOT_FETCHED = {"canonical", "next", "prev", "search", "index", "genindex", "author", "alternate"}


class Page(HTMLParser):
    """What a page links to, what it fetches, its anchors and its images."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.links, self.fetched, self.images = [], [], []
        self.anchors, self.style = set(), False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.anchors |= {attributes[name] for name in ("id", "name") if name in attributes}
        if tag in ("a", "area") and "href" in attributes:
            self.links.append(attributes["href"])
        for name in FETCHED.get(tag, ()):
            if attributes.get(name):
                self.fetched += [part.split()[0] for part in attributes[name].split(", ")]
        if tag == "link" and not set(attributes.get("rel", "").split()) & NOT_FETCHED:
            self.fetched.append(attributes.get("href", ""))
        if tag == "img":
            self.images.append(attributes)
        self.fetched += css_addresses(attributes.get("style", ""))
        self.style = tag == "style"

    def handle_data(self, data):
        if self.style:
            self.fetched += css_addresses(data)
            self.style = False


def css_addresses(text: str) -> list[str]:
    found = re.findall(r"url\(\s*['\"]?([^'\")]+)", text)
    return found + re.findall(r"@import\s+['\"]([^'\"]+)", text)


@cache
def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def is_remote(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https", "ftp", "ws", "wss")


def name_of(path: Path) -> str:
    return path.relative_to(HTML).as_posix()


@pytest.fixture(scope="session", autouse=True)
def _built():
    if not PAGES:
        reason = "the book is not built: run `make book` (`make test` does so first)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def offenders(what_is_wrong: Callable[[Path], Iterable[Any]]) -> dict[str, list[Any]]:
    """Page -> what is wrong there, for the pages where something is."""
    return {name_of(path): found for path in PAGES if (found := list(what_is_wrong(path)))}


def test_every_page_of_the_table_of_contents_is_there_and_the_first_one_too():
    toc = (HTML.parents[1] / "_toc.yml").read_text()
    listed = re.findall(r"(?:file|root):\s*(\S+)", toc)
    pages = ["index.html", *(f"{page.removesuffix('.ipynb')}.html" for page in listed)]
    assert len(pages) > 20
    assert [page for page in pages if not (HTML / page).is_file()] == []


def test_nothing_is_fetched_from_another_host():
    assert offenders(lambda path: filter(is_remote, read(path).fetched)) == {}


def test_style_sheets_fetch_nothing_from_another_host():
    sheets = {path: css_addresses(path.read_text("utf-8")) for path in HTML.rglob("*.css")}
    assert {
        name_of(path): found for path, found in sheets.items() if any(map(is_remote, found))
    } == {}


def missing_files(path: Path) -> list[str]:
    inside = [
        address
        for address in read(path).fetched
        if address and not is_remote(address) and not address.startswith(("data:", "#"))
    ]
    return [a for a in inside if not (path.parent / unquote(urlsplit(a).path)).resolve().is_file()]


def test_every_fetched_file_is_there():
    assert offenders(missing_files) == {}


def broken_links(path: Path) -> list[str]:
    broken = []
    for address in read(path).links:
        parts = urlsplit(address)
        if is_remote(address) or parts.scheme in ("mailto", "javascript", "data"):
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        place, is_page = unquote(parts.fragment), target.suffix == ".html"
        if not target.is_file() or (place and is_page and place not in read(target).anchors):
            broken.append(address)
    return broken


def test_every_link_inside_the_book_leads_to_a_page_and_a_place_on_it():
    assert offenders(broken_links) == {}


def undescribed(path: Path) -> list[dict[str, str]]:
    """Images of the book with fewer than twelve words, others (a logo, a button) with none."""

    def least(image: dict[str, str]) -> int:
        return 12 if is_of_the_book(image) else 1

    return [i for i in read(path).images if len(i.get("alt", "").split()) < least(i)]


def is_of_the_book(image: dict[str, str]) -> bool:
    return Path(image["src"]).parent.name == "_images"


def test_every_image_says_in_words_what_it_shows():
    assert offenders(undescribed) == {}


def test_each_image_of_the_book_is_described_in_words_of_its_own():
    words = {}
    for path in PAGES:
        for image in filter(is_of_the_book, read(path).images):
            words.setdefault(image["alt"], set()).add(Path(image["src"]).name)
    assert len(words) > 40
    assert [files for files in words.values() if len(files) > 1] == []


def machine_paths(path: Path) -> list[str]:
    root = re.escape(str(HTML.parents[1]))
    pattern = rf"(?<![\w.])/(?:home|root|work|Users)/.{{0,60}}|{root}/.{{0,60}}"
    return re.findall(pattern, path.read_text(encoding="utf-8"))


def test_no_path_of_the_machine_that_built_it_is_shown():
    assert offenders(machine_paths) == {}


BROKEN = """<html><head><link rel="stylesheet" href="https://a.example/x.css">
<style>p { background: url(https://b.example/x.png) }</style></head><body id="top">
<script src="lost.js"></script><a href="#nowhere">a</a><a href="gone.html">b</a>
<a href="#top">right</a><img src="_images/x.png" alt="too short"><p>/home/somebody/book</p>
<h2><a class="term first-use" href="#top">term</a></h2>
</body></html>"""


def test_the_checks_of_a_page_see_what_is_wrong(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(BROKEN)
    remote = ["https://a.example/x.css", "https://b.example/x.png"]
    assert [a for a in read(path).fetched if is_remote(a)] == remote
    assert missing_files(path) == ["lost.js", "_images/x.png"]
    assert broken_links(path) == ["#nowhere", "gone.html"]
    assert [image["alt"] for image in undescribed(path)] == ["too short"]
    assert machine_paths(path) == ["/home/somebody/book</p>"]
    assert [fault.split(":")[0] for fault in wrong_term_links(path)] == [
        "not in the glossary",
        "not in running prose",
    ]


def test_a_chapter_offers_its_copy_that_stands_alone_and_colab_only_if_there_is_an_address():
    repository = yaml.safe_load(CONFIG.read_text())["repository"]["url"]
    book = repository.removeprefix("https://github.com/").removesuffix(".git")
    assert len(CHAPTERS) > 10
    for path in CHAPTERS:
        source = nbformat.read(HTML.parents[1] / "notebooks" / f"{path.stem}.ipynb", as_version=4)
        copy = HTML / "colab" / f"{path.stem}.ipynb"
        assert nbformat.read(copy, as_version=4) == stand_alone(source), path.stem
        assert f"../colab/{path.stem}.ipynb" in read(path).links
        buttons = [link for link in read(path).links if "//colab." in link]
        assert len(buttons) == repository.startswith("https://github.com/"), path.stem
        assert all(f"/{book}" in link for link in buttons), path.stem


def cells_in_tables(path: Path) -> list[list[str]]:
    """The rows of all tables of a page, without their first cells, which may be links."""
    soup = BeautifulSoup(path.read_text("utf-8"), "html.parser")
    rows = soup.select("article table tr")
    return [[cell.get_text(strip=True) for cell in row.select("th, td")][1:] for row in rows]


def test_the_pages_show_every_figure_that_is_stored():
    shown = {}
    for source in sorted((HTML.parents[1] / "book").glob("*.md")):
        for name in re.findall(r"^```\{speed-table\} (\w+)", source.read_text("utf-8"), re.M):
            shown[name] = str(cells_in_tables(HTML / "book" / f"{source.stem}.html"))
    assert set(shown) == set(TABLES)
    for name, table in TABLES.items():
        text = table(json.loads((DATA / f"{name}.json").read_text("utf-8"))).replace("'", "’")
        for block in re.findall(r"(?:^\|.*\n?)+", text.replace("**", "").replace("`", ""), re.M):
            rows = [row.split(" | ")[1:] for row in re.findall(r"^\| (.+) \|$", block, re.M)]
            rows = [row for row in rows if row[0] != "--:"]
            assert len(rows) >= 2
            # A table from its first row to its last, and nothing between them.
            assert str(rows)[1:-1] in shown[name], name


# --- Glossary and index --------------------------------------------------------------------------


def term_of(link: Tag) -> str:
    return link["href"].rpartition("#")[2]


@cache
def term_links(path: Path) -> tuple[list[Tag], list[Tag]]:
    """Links to the glossary: those made at a first use, and those that the text itself makes."""
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    made, written = soup.select("a.term.first-use"), soup.select("a.term:not(.first-use)")
    return made, written


@cache
def terms() -> set[str]:
    """Anchors of the glossary's entries."""
    soup = BeautifulSoup((HTML / "book" / "glossary.html").read_text("utf-8"), "html.parser")
    return {entry["id"] for entry in soup.select("dl.glossary dt[id]")}


def wrong_term_links(path: Path) -> list[str]:
    made, written = (list(map(term_of, links)) for links in term_links(path))
    found = [f"twice: {term}" for term in {term for term in made if made.count(term) > 1}]
    found += [f"linked by hand too: {term}" for term in set(made) & set(written)]
    found += [f"not in the glossary: {term}" for term in set(made) - terms()]
    if made and path.with_suffix("").as_posix().endswith(tuple(PLAIN_PAGES)):
        found.append(f"on a plain page: {made}")
    for link in term_links(path)[0]:
        around = {parent.name for parent in link.parents}
        in_code = link.find_parent(class_=["math", "highlight", "cell_input", "cell_output"])
        if "p" not in around or around & NO_PROSE or in_code:
            found.append(f"not in running prose: {link}")
    return found


def test_a_page_links_a_glossary_term_once_and_in_running_prose_only():
    assert offenders(wrong_term_links) == {}


def test_every_glossary_term_is_linked_from_the_pages_around_it():
    pages = [path for path in PAGES if name_of(path) != "book/glossary.html"]
    assert len(terms()) > 90
    made, written = (
        {term_of(link) for path in pages for link in term_links(path)[kind]} for kind in (0, 1)
    )
    assert made | written == terms()
    assert len(made) > 50
    everyday = {f"term-{term}" for term in EVERYDAY}
    assert everyday <= written - made


def test_uses_of_a_term_are_whole_words_and_the_longest_term_wins():
    some = ["policy evaluation", "off-policy", "Q-learning", "step size", "TD target", "policy"]
    some.append("MDP")
    for text, found in {
        "Policies, no policy evaluation": [("Policies", "policy"), ("policy evaluation",) * 2],
        "two MDPs": [("MDPs", "MDP")],
        "an mdp, a POMDP, an MDP-based shop": [],
        "off-policy data": [("off-policy", "off-policy")],
        "the TD\ntarget, never a td target": [("TD\ntarget", "TD target")],
        "Step sizes: a step, sizes": [("Step sizes", "step size")],
        "deep Q-learning's policymaker": [("Q-learning", "Q-learning")],
    }.items():
        assert [(use[0], some[use.lastindex - 1]) for use in uses_of(some).finditer(text)] == found


def test_the_index_leads_to_terms_to_the_package_and_to_the_sections_that_explain():
    links = set(read(HTML / "genindex.html").links)
    listed = (HTML.parents[1] / "genindex.md").read_text(encoding="utf-8")
    places = re.findall(r"(\S+)#(\S+)", listed)
    assert len(places) > 100
    assert {f"{page}.html#{section}" for page, section in places} <= links
    assert {f"book/glossary.html#{term}" for term in terms()} <= links
    assert "book/api.html#dqnrec_lite.DQN.learn" in links
