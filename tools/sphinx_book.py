"""Sphinx extension: what autodoc needs to write the book's API page."""

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


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-before-read-docs", import_tensorflow_quietly)
    app.connect("autodoc-process-signature", write_array_types_short)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
