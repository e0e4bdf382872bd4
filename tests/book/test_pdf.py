"""The book on paper: one PDF with tags, bookmarks, and links that lead from chapter to chapter."""

import os
import shutil
import subprocess
import sys

import pytest
from pdf import BROWSERS, HTML, ROOT


def test_the_whole_book_becomes_one_pdf_with_bookmarks(tmp_path):
    if not HTML.is_dir() or not any(map(shutil.which, BROWSERS)):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no built book, or no Chromium")
    target = tmp_path / "book.pdf"
    command = [sys.executable, str(ROOT / "tools" / "pdf.py"), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    data = target.read_bytes()
    assert data.startswith(b"%PDF-")
    assert data.count(b"/Type /Page\n") > 100
    assert b"/StructTreeRoot" in data  # tags, for screen readers
    assert b"/Type /Outlines" in data
    assert data.count(b"/Dest ") > 500  # links within the book
    assert b"file:" not in data
    for bookmark in (b"Contents", b"Glossary", b"5. What should Q be?", b"API reference"):
        assert b"/Title (" + bookmark + b")" in data, bookmark
