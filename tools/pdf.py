"""Print the built book into one PDF: `python tools/pdf.py book.pdf`.

All pages are joined into one, in the order of the table of contents, so that links from chapter
to chapter stay links. Chromium prints it, with tags and bookmarks, by the `@media print` rules of
book.css. (Jupyter Book's own builder `pdfhtml` was tried. It wants a browser of its own, and prints
without tags, bookmarks and the book's style; pictures are lost, and mathematics stays raw.)
"""

import argparse
import copy
import posixpath
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MILLISECONDS = 300_000  # until a step counts as failed, also on a busy machine


def reading_order() -> list[tuple[str, list[str]]]:
    """The parts in `_toc.yml`, each with its caption and its pages; the first page has no part."""
    parts: list[tuple[str, list[str]]] = []
    for key, value in re.findall(
        r"(root|caption|file):\s*(.+)", (ROOT / "_toc.yml").read_text(encoding="utf-8")
    ):
        if key == "caption":
            parts.append((value, []))
        elif key == "root":
            parts.append(("", [f"{value}.html"]))
        else:
            parts[-1][1].append(f"{value}.html")
    return parts


def read(page: str) -> BeautifulSoup:
    return BeautifulSoup((HTML / page).read_text(encoding="utf-8"), "html.parser")


def chapter(page: str, pages: list[str]) -> Tag:
    """A page's text, its anchors and links written for one long page beside `_build/html`."""
    article = read(page).select_one("article")
    for extra in article.select(".headerlink, .prev-next-footer, button"):
        extra.decompose()
    for fold in article.select("details"):
        fold["open"] = ""
    for element in article.select("[id]"):
        element["id"] = f"{page}:{element['id']}"
    for image in article.select("img[src]"):
        image["src"] = "html/" + posixpath.normpath(posixpath.join(page, "..", image["src"]))
    for link in article.select("a[href]"):
        parts = urlsplit(link["href"])
        if parts.scheme or parts.netloc:
            continue
        target = posixpath.normpath(posixpath.join(page, "..", parts.path)) if parts.path else page
        if target in pages:
            link["href"] = (
                f"#{target}:{unquote(parts.fragment)}" if parts.fragment else f"#{target}"
            )
        else:  # a page that is not printed, such as a listing of a module
            link.unwrap()
    article["id"] = page
    return article


def joined() -> str:
    """The whole book as one page of HTML, to stand in `_build`."""
    parts = reading_order()
    pages = [page for _, some in parts for page in some]
    chapters = {page: chapter(page, pages) for page in pages}

    # The head of a page with mathematics serves all; of its scripts only MathJax.
    head = next(soup.head for soup in map(read, pages) if soup.select_one("script[src*=mathjax]"))
    for script in head.select("script, link:not([rel=stylesheet])"):
        if "mathjax" not in str(script).lower():
            script.decompose()
    page = next(p for p in pages if read(p).select_one("script[src*=mathjax]"))
    for element in head.select("[src], [href]"):
        name = "src" if element.has_attr("src") else "href"
        element[name] = "html/" + posixpath.normpath(posixpath.join(page, "..", element[name]))
    title = read(pages[0]).title.get_text().split(" — ")[-1].strip()
    head.title.string = title

    contents = BeautifulSoup('<nav class="bd-article"><h1>Contents</h1></nav>', "html.parser")
    for caption, some in parts[1:]:
        contents.nav.append(entry := contents.new_tag("p"))
        entry.string = caption
        contents.nav.append(listing := contents.new_tag("ul"))
        for name in some:
            listing.append(item := contents.new_tag("li"))
            item.append(link := contents.new_tag("a", href=f"#{name}"))
            heading = copy.copy(chapters[name].h1)
            link.extend(list(heading.children))
    first, *others = (str(chapters[name]) for name in pages)
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light">{head}'
        f'<body><main class="print-book bd-content"><div class="bd-article-container">'
        f"{first}{contents}{''.join(others)}</div></main></body></html>"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pdf", type=Path, help="where to write it")
    target = parser.parse_args().pdf
    if not HTML.is_dir():
        sys.exit("The book is not built: run `make book` first.")
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        sys.exit("Chromium is not installed. Debian, Ubuntu:  sudo apt install chromium")

    source = HTML.parent / "print.html"
    print("Joining the pages", flush=True)
    source.write_text(joined(), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox"], timeout=MILLISECONDS
        )
        page = browser.new_page()
        page.set_default_timeout(MILLISECONDS)
        print("Typesetting the mathematics", flush=True)
        page.goto(source.as_uri())
        page.evaluate("MathJax.startup.promise.then(() => null)")
        print("Printing", flush=True)
        page.pdf(
            path=target, prefer_css_page_size=True, print_background=True, tagged=True, outline=True
        )
        browser.close()
    source.unlink()
    print(f"{target} holds the book, {target.stat().st_size / 1e6:.1f} MB.")


if __name__ == "__main__":
    main()
