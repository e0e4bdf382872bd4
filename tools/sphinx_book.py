"""Sphinx extension: what this book's pages need beyond Jupyter Book.

The API page needs a quiet TensorFlow and lists that screen readers read. Each chapter offers
itself as a notebook that stands alone. The page of snippets shows cells of the chapters, that of
speed what was measured. A glossary term is a link where a page first uses it, and the index names
the chapters that explain it. Search must work without a server.
"""

import json
import os
import re
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from colab import write_copies
from docutils import nodes
from speed_tables import DATA, TABLES
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

# Terms whose everyday sense comes up too: a power of two, the pole on its cart, the environment
# that pip installs into, "returns" as a verb. They are links only where a page says {term} itself.
EVERYDAY = {"cart", "environment", "potential", "power", "return", "state", "sweep"}
# Pages whose terms stay plain: the glossary itself, lists of names and titles, the first page.
PLAIN_PAGES = {"book/glossary", "book/api", "book/bibliography", "book/index"}
# What is no running prose, though there may be paragraphs in it.
NO_PROSE = (nodes.Titular, nodes.literal, nodes.math, nodes.raw, nodes.reference, nodes.thead)


def import_tensorflow_quietly(_app: Sphinx, _env: BuildEnvironment, docnames: list[str]) -> None:
    """Import TensorFlow before autodoc does, without its start-up messages.

    They come from C++ and look like warnings of the book's build, whose log must hold none.
    """
    if not docnames:
        return
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def skip_what_says_nothing(
    _app: Sphinx, _what: str, _name: str, thing: Any, _skip: bool, _options: Any
) -> bool | None:
    """Leave out the fields of named tuples, of which Python knows a number only."""
    return (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") or None


def keep_what_fields_say(app: Sphinx) -> None:
    """Keep Napoleon from fields' docstrings: it takes all up to a first colon for a type."""
    kept: dict[str, list[str]] = {}

    def before(_app: Sphinx, what: str, name: str, _thing: Any, _o: Any, lines: list[str]) -> None:
        if what == "attribute":
            kept[name] = list(lines)

    def after(_app: Sphinx, _what: str, name: str, _thing: Any, _o: Any, lines: list[str]) -> None:
        lines[:] = kept.pop(name, lines)

    app.connect("autodoc-process-docstring", before, priority=400)
    app.connect("autodoc-process-docstring", after, priority=600)


def write_lone_notebooks(app: Sphinx) -> None:
    """Put the chapters' copies that stand alone among the pages, in the folder colab."""
    if app.builder.format == "html":
        write_copies(Path(app.outdir) / "colab")


def lone_notebook_links(name: str, address: str, repository: str) -> str:
    """HTML: a link to the chapter's copy and, if Colab can open it from GitHub, a button.

    Args:
        name: of the notebook, without suffix.
        address: of the copy, from the page.
        repository: the book's public address; empty while it has none. Its branch gh-pages must
            hold the built book, for Colab opens the copy there: it does not fetch the package.
    """
    download = f'<a href="{escape(address)}" download>Download this chapter</a>'
    links = [f"{download} as one notebook that needs no other file of the book"]
    if found := re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", repository):
        colab = f"https://colab.research.google.com/github/{found[1]}/blob/gh-pages/colab/"
        links.append(f'<a class="colab-button" href="{colab}{name}.ipynb">Open it in Colab</a>')
    return f'<p class="lone-notebook">{". ".join(links)}.</p>'


def offer_lone_notebook(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: Any
) -> None:
    """Set the links below the title of each chapter."""
    folder, _, name = page.rpartition("/")
    if folder == "notebooks" and "</h1>" in context.get("body", ""):
        address = context["pathto"](f"colab/{name}.ipynb", resource=True)
        repository = app.config.html_theme_options.get("repository_url") or ""
        links = lone_notebook_links(name, address, repository)
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{links}", 1)


class Snippet(SphinxDirective):
    """Show a chapter's cell that is tagged as a snippet: arguments are chapter and cell id."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        name, cell_id = self.arguments
        path = Path(self.env.srcdir, "notebooks", f"{name}.ipynb")
        self.env.note_dependency(str(path))
        try:
            cells = nbformat.read(path, as_version=4).cells
        except FileNotFoundError as error:
            raise self.error(f"there is no chapter {name!r}") from error
        for cell in cells:
            if cell.id == cell_id and "snippet" in cell.metadata.get("tags", []):
                block = nodes.literal_block(cell.source, cell.source, language="python")
                self.set_source_info(block)
                return [block]
        raise self.error(f"{name} has no cell {cell_id!r} that is tagged snippet")


class SpeedTable(SphinxDirective):
    """Show what a measurement stored: the argument is the name of its file in book/data."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        (name,) = self.arguments
        if name not in TABLES:
            raise self.error(f"there is no table {name!r}; there are {', '.join(TABLES)}")
        path = DATA / f"{name}.json"
        self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(TABLES[name](json.loads(path.read_text("utf-8"))))


def write_lists_that_screen_readers_read(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: Any
) -> None:
    """Mend two kinds of list in what Sphinx writes.

    The parameters of a long signature come as a definition list without a term. The entries of a
    bibliography, in a list, have a role that ARIA 1.2 gave up.
    """

    def mend(signature: re.Match[str]) -> str:
        text = signature.group()
        for wrong, right in (("dl", "ul"), ("dd", "li")):
            text = text.replace(f"<{wrong}>", f"<{right}>").replace(f"</{wrong}>", f"</{right}>")
        return text

    if "body" in context:
        body = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
        context["body"] = re.sub(r'<dt class="sig .*?</dt>', mend, body, flags=re.DOTALL)


def glossary(env: BuildEnvironment) -> dict[str, tuple[str, str]]:
    """Page and anchor of each term."""
    objects = env.get_domain("std").get_objects()
    return {name: (page, anchor) for name, _, kind, page, anchor, _ in objects if kind == "term"}


def write_all_pages_if_terms_changed(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Which pages to write besides those that were read: a new term may stand on any."""
    before, env.glossary = getattr(env, "glossary", None), glossary(env)
    return [] if env.glossary == before else sorted(env.found_docs)


def uses_of(terms: list[str]) -> re.Pattern[str]:
    """A pattern that finds the terms; its group i + 1 stands for terms[i], earlier ones go first.

    Whole words, singular or plural, small or capital; acronyms as they are written.
    """

    def form(word: str) -> str:
        if len(re.findall("[A-Z]", word)) > 1:
            return re.escape(word)
        stem = word.removesuffix("y")
        return f"(?i:{re.escape(stem)}{'(?:y|ie)' if stem != word else ''})"

    forms = "|".join("(" + r"\s+".join(map(form, term.split())) + ")" for term in terms)
    return re.compile(rf"(?<![\w-])(?:{forms})(?:s|es)?(?![\w-])")


def link_first_uses(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Make each glossary term a link where the prose of a page first uses it.

    A term that the page links anyway, by {term}, is left alone. All such links get the class term,
    those made here the class first-use too.
    """
    linked = set()
    for link in doctree.findall(nodes.reference):
        if link.children and "std-term" in getattr(link[0], "attributes", {}).get("classes", []):
            link["classes"].append("term")
            linked.add(link.get("refid") or link["refuri"].partition("#")[2])
    if page in PLAIN_PAGES:
        return
    places = glossary(app.env)
    terms = sorted(places.keys() - EVERYDAY, key=lambda term: (-len(term), term))
    uses = uses_of(terms)
    for text in list(doctree.findall(nodes.Text)):
        around, node = [], text.parent
        while node is not None:
            around.append(node)
            node = node.parent
        if not any(isinstance(node, nodes.paragraph) for node in around):
            continue
        if any(isinstance(node, NO_PROSE) for node in around):
            continue
        parts: list[nodes.Node] = []
        end = 0
        for use in uses.finditer(text):
            glossary_page, anchor = places[terms[use.lastindex - 1]]
            if anchor not in linked:
                linked.add(anchor)
                word = nodes.inline(use[0], use[0], classes=["std-term"])
                link = make_refnode(app.builder, page, glossary_page, anchor, word)
                link["classes"] += ["term", "first-use"]
                parts += [nodes.Text(text[end : use.start()]), link]
                end = use.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[end:])])


def index_explained_terms(app: Sphinx, _builder: Builder) -> None:
    """Add to the index where the terms in genindex.md are explained: chapter, and section in it.

    Not by MyST's directive: in a chapter it would stand as a piece of code, often an empty one,
    above each heading for those who read it in JupyterLab or Colab.
    """
    entries = app.env.get_domain("index").entries
    source = Path(app.srcdir, "genindex.md").read_text(encoding="utf-8")
    for term, places in re.findall(r"^- (.+): (.+)$", source, re.MULTILINE):
        for page, _, section in (place.partition("#") for place in places.split()):
            title = app.env.titles[page].astext()
            entries[page].append(("single", f"{term}; {title}", section, "", None))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("snippet", Snippet)
    app.add_directive("speed-table", SpeedTable)
    app.connect("builder-inited", write_lone_notebooks)
    app.connect("html-page-context", offer_lone_notebook)
    app.connect("env-before-read-docs", import_tensorflow_quietly)
    app.connect("autodoc-skip-member", skip_what_says_nothing)
    keep_what_fields_say(app)
    app.connect("html-page-context", write_lists_that_screen_readers_read)
    app.connect("env-updated", write_all_pages_if_terms_changed)
    app.connect("doctree-resolved", link_first_uses)
    app.connect("write-started", index_explained_terms)
    # Under each hit the search quotes the page, which it fetches; no browser lets a file do so.
    app.add_js_file(
        None, body="DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== 'file:';"
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
