"""Sphinx extension: what this book's pages need beyond Jupyter Book.

The API page needs a quiet TensorFlow, short type names and lists that screen readers read; each
chapter offers itself as a notebook that stands alone; the page of snippets shows cells of the
chapters; search must work without a server.
"""

import os
import re
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from colab import write_copies
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

# How NumPy's array types come out once Python has resolved them, and how a reader writes them.
SHORT = [
    (
        r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[([^\]]*)\]\]",
        r"NDArray[\1]",
    ),
    (r"~numpy\._typing\.\S*_Buffer \| .*?\[complex \| bytes \| str\]", "ArrayLike"),
]


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


def write_array_types_short(
    _app: Sphinx,
    _what: str,
    _name: str,
    _object: Any,
    _options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Replace each resolved NumPy type in a signature by its usual name."""
    for pattern, name in SHORT:
        signature = signature and re.sub(pattern, name, signature)
        returns = returns and re.sub(pattern, name, returns)
    return signature, returns


def skip_what_says_nothing(
    _app: Sphinx, _what: str, _name: str, thing: Any, _skip: bool, _options: Any
) -> bool | None:
    """Leave out the fields of named tuples, of which Python knows a number only."""
    return (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") or None


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


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("snippet", Snippet)
    app.connect("builder-inited", write_lone_notebooks)
    app.connect("html-page-context", offer_lone_notebook)
    app.connect("env-before-read-docs", import_tensorflow_quietly)
    app.connect("autodoc-process-signature", write_array_types_short)
    app.connect("autodoc-skip-member", skip_what_says_nothing)
    app.connect("html-page-context", write_lists_that_screen_readers_read)
    # Under each hit the search quotes the page, which it fetches; no browser lets a file do so.
    app.add_js_file(
        None, body="DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== 'file:';"
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
