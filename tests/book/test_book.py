"""The built pages: complete, their links whole, and without anything from another host."""

import json
import os
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
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
# The themes' own templates lie among the static files; they are no pages.
PAGES = sorted(path for path in HTML.rglob("*.html") if "_static" not in path.parts)
# Elements that make a browser fetch something, and the attribute that says what.
FETCHED = {
    "script": ("src",), "img": ("src", "srcset"), "iframe": ("src",), "source": ("src", "srcset"),
    "video": ("src", "poster"), "audio": ("src",), "embed": ("src",), "object": ("data",),
    "image": ("href", "xlink:href"), "use": ("href", "xlink:href"),
}  # fmt: skip
HEADINGS = {f"h{level}" for level in range(1, 7)}
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


each_page = pytest.mark.parametrize("path", PAGES, ids=name_of)


def test_every_page_of_the_table_of_contents_is_there_and_the_first_one_too():
    toc = (HTML.parents[1] / "_toc.yml").read_text()
    for page in re.findall(r"(?:file|root):\s*(\S+)", toc):
        assert (HTML / f"{page.removesuffix('.ipynb')}.html").is_file(), page
    assert (HTML / "index.html").is_file()


@each_page
def test_nothing_is_fetched_from_another_host(path):
    assert [address for address in read(path).fetched if is_remote(address)] == []


def test_style_sheets_fetch_nothing_from_another_host():
    for path in HTML.rglob("*.css"):
        remote = [a for a in css_addresses(path.read_text(encoding="utf-8")) if is_remote(a)]
        assert remote == [], name_of(path)


@each_page
def test_every_fetched_file_is_there(path):
    for address in read(path).fetched:
        if address and not is_remote(address) and not address.startswith(("data:", "#")):
            assert (path.parent / unquote(urlsplit(address).path)).resolve().is_file(), address


@each_page
def test_every_link_inside_the_book_leads_to_a_page_and_a_place_on_it(path):
    broken = []
    for address in read(path).links:
        parts = urlsplit(address)
        if is_remote(address) or parts.scheme in ("mailto", "javascript", "data"):
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        place, is_page = unquote(parts.fragment), target.suffix == ".html"
        if not target.is_file() or (place and is_page and place not in read(target).anchors):
            broken.append(address)
    assert broken == []


@each_page
def test_every_image_says_in_words_what_it_shows(path):
    for image in read(path).images:
        least = 12 if Path(image["src"]).parent.name == "_images" else 1  # else a logo, a button
        assert len(image.get("alt", "").split()) >= least, image


def test_each_image_of_the_book_is_described_in_words_of_its_own():
    words = {}
    for path in PAGES:
        for image in read(path).images:
            if Path(image["src"]).parent.name == "_images":
                words.setdefault(image["alt"], set()).add(Path(image["src"]).name)
    assert len(words) > 40
    assert [files for files in words.values() if len(files) > 1] == []


@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name == "notebooks"], ids=name_of)
def test_a_chapter_offers_its_copy_that_stands_alone_and_colab_only_if_there_is_an_address(path):
    source = nbformat.read(HTML.parents[1] / "notebooks" / f"{path.stem}.ipynb", as_version=4)
    copy = HTML / "colab" / f"{path.stem}.ipynb"
    assert nbformat.read(copy, as_version=4) == stand_alone(source)
    assert f"../colab/{path.stem}.ipynb" in read(path).links
    repository = yaml.safe_load(CONFIG.read_text())["repository"]["url"]
    buttons = [link for link in read(path).links if "//colab." in link]
    assert len(buttons) == repository.startswith("https://github.com/")
    book = repository.removeprefix("https://github.com/").removesuffix(".git")
    assert all(f"/{book}" in link for link in buttons)


def test_the_page_of_speed_shows_every_figure_that_is_stored_and_no_other():
    soup = BeautifulSoup((HTML / "book" / "speed.html").read_text("utf-8"), "html.parser")
    shown = [
        [cell.get_text(strip=True) for cell in row.select("th, td")][1:]
        for row in soup.select("article table tr")
    ]
    wanted = []
    for name, table in TABLES.items():
        text = table(json.loads((DATA / f"{name}.json").read_text("utf-8"))).replace("'", "’")
        rows = re.findall(r"^\| (.+) \|$", text.replace("**", ""), re.M)
        wanted += [row.split(" | ")[1:] for row in rows if not row.startswith(":--")]
    assert len(wanted) > 30
    assert [row for row in shown if row != ["Makes anew"]][: len(wanted)] == wanted


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


@each_page
def test_a_page_links_a_glossary_term_once_and_in_running_prose_only(path):
    made, written = (list(map(term_of, links)) for links in term_links(path))
    assert len(made) == len(set(made))
    assert set(made).isdisjoint(written)
    assert set(made) <= terms()
    assert not made or name_of(path).removesuffix(".html") not in PLAIN_PAGES
    for link in term_links(path)[0]:
        around = {parent.name for parent in link.parents}
        assert "p" in around, link
        assert not around & {"a", "code", "pre", "th", "dt", "figcaption", *HEADINGS}, link
        assert not link.find_parent(class_=["math", "highlight", "cell_input", "cell_output"]), link


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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Policies, no policy evaluation", [("Policies", "policy"), ("policy evaluation",) * 2]),
        ("two MDPs", [("MDPs", "MDP")]),
        ("an mdp, a POMDP, an MDP-based shop", []),
        ("off-policy data", [("off-policy", "off-policy")]),
        ("the TD\ntarget, never a td target", [("TD\ntarget", "TD target")]),
        ("Step sizes: a step, sizes", [("Step sizes", "step size")]),
        ("deep Q-learning's policymaker", [("Q-learning", "Q-learning")]),
    ],
)
def test_uses_of_a_term_are_whole_words_and_the_longest_term_wins(text, found):
    some = ["policy evaluation", "off-policy", "Q-learning", "step size", "TD target", "policy"]
    some.append("MDP")
    assert [(use[0], some[use.lastindex - 1]) for use in uses_of(some).finditer(text)] == found


def test_the_index_leads_to_terms_to_the_package_and_to_the_sections_that_explain():
    links = set(read(HTML / "genindex.html").links)
    listed = (HTML.parents[1] / "genindex.md").read_text(encoding="utf-8")
    places = re.findall(r"(\S+)#(\S+)", listed)
    assert len(places) > 100
    assert {f"{page}.html#{section}" for page, section in places} <= links
    assert {f"book/glossary.html#{term}" for term in terms()} <= links
    assert "book/api.html#dqnrec_lite.DQN.learn" in links


@each_page
def test_no_path_of_the_machine_that_built_it_is_shown(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        rf"(?<![\w.])/(?:home|root|work|Users)/|{re.escape(str(HTML.parents[1]))}/", text
    )
