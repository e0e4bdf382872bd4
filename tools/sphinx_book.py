"""Sphinx extension: what the book's API page and a reader without a server need."""

import os
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

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
    app.connect("env-before-read-docs", import_tensorflow_quietly)
    app.connect("autodoc-process-signature", write_array_types_short)
    app.connect("html-page-context", write_lists_that_screen_readers_read)
    # Under each hit the search quotes the page, which it fetches; no browser lets a file do so.
    app.add_js_file(
        None, body="DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== 'file:';"
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
