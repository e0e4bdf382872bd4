"""The book on paper: one PDF with tags, bookmarks, and links that lead from chapter to chapter."""

import os
import shutil
import sys

import pdf
import pytest

SOME = [
    ("", ["book/index.html"]),
    ("The pieces", ["notebooks/05_bellman_targets.html"]),
    ("Reference", ["book/api.html", "book/glossary.html"]),
]


def test_pages_become_one_pdf_with_bookmarks(tmp_path, monkeypatch):
    """A chapter and the pages that it leads to; `make pdf` takes all, in the same way."""
    if not pdf.HTML.is_dir() or not any(map(shutil.which, pdf.BROWSERS)):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no built book, or no Chromium")
    every = {page for _, pages in pdf.reading_order() for page in pages}
    assert every > {page for _, pages in SOME for page in pages}
    monkeypatch.setattr(pdf, "reading_order", lambda: SOME)
    target = tmp_path / "book.pdf"
    monkeypatch.setattr(sys, "argv", ["pdf.py", str(target)])
    pdf.main()
    data = target.read_bytes()
    assert data.startswith(b"%PDF-")
    assert data.count(b"/Type /Page\n") > 20
    assert b"/StructTreeRoot" in data  # tags, for screen readers
    assert b"/Type /Outlines" in data
    assert data.count(b"/Dest ") > 50  # links within the book
    assert b"file:" not in data
    chapter = b"5. Bellman targets: what should Q be?"
    for bookmark in (b"Contents", b"Glossary", chapter, b"API reference"):
        assert b"/Title (" + bookmark + b")" in data, bookmark
