"""The book in a real browser: headless Chromium, driven by Playwright, with real keys and clicks.

Every page is opened twice: from a local server on a wide light screen, and from disk, as a reader
of the unpacked book opens it, on a narrow dark one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from figures import PHONE
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
# The themes' own templates lie among the static files; they are no pages.
PAGES = [
    path.relative_to(HTML).as_posix()
    for path in sorted(HTML.rglob("*.html"))
    if "_static" not in path.parts and path != HTML / "index.html"  # only leads to the first page
]
DESK = [("desk", page) for page in PAGES]
DISK = [("disk", page) for page in PAGES]
on_the_desk = pytest.mark.parametrize("visit", DESK, indirect=True, ids="-".join)
on_the_phone = pytest.mark.parametrize("visit", DISK, indirect=True, ids="-".join)
everywhere = pytest.mark.parametrize("visit", DESK + DISK, indirect=True, ids="-".join)
VIEWS = {
    "desk": {"viewport": {"width": 1300, "height": 900}, "color_scheme": "light"},
    "disk": {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"},
}
SEARCHES = {
    "discount": "book/glossary.html",
    "replay buffer": "notebooks/07_replay.html",
    "target network": "notebooks/08_target_network.html",
    "LinUCB": "notebooks/10_evaluation.html",
    "Huber": "notebooks/06_q_network.html",
    "propensity": "book/glossary.html",
    "epsilon": "notebooks/09_training.html",
    "recency": "notebooks/03_state_encoding.html",
    "profiler": "notebooks/14_faster.html",
    "potential": "notebooks/04_reward_function.html",
    "value_iteration": "book/api.html",
}


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def browser():
    for found, what in [
        (PAGES, "the book is not built: run `make book` (`make test` does so first)"),
        (CHROMIUM, "Chromium is not installed. Debian, Ubuntu:  sudo apt install chromium"),
    ]:
        if not found:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """Where each view finds the book: on a server of ours, and in a folder somewhere else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = shutil.copytree(HTML, tmp_path_factory.mktemp("reader") / "The book, unpacked")
    yield {"desk": f"http://127.0.0.1:{server.server_address[1]}", "disk": folder.as_uri()}
    server.shutdown()


@pytest.fixture(scope="module")
def contexts(browser):
    """A fresh profile for each view, whose pages may read the clipboard."""
    made = {name: browser.new_context(**view) for name, view in VIEWS.items()}
    for context in made.values():
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.set_default_timeout(10_000)
    return made


@contextmanager
def opened(context, home: str, address: str):
    """The page at rest, what was asked for, and what went wrong so far."""
    page, requests, faults = context.new_page(), [], []
    page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"not loaded: {request.url}"))
    page.on("response", lambda r: faults.append(f"{r.status}: {r.url}") if r.status > 399 else None)

    def note(request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            requests.append(request.url)
            if not request.url.startswith(home + "/"):
                faults.append(f"another host: {request.url}")

    page.on("request", note)
    page.goto(f"{home}/{address}")
    page.evaluate("window.MathJax?.startup?.promise.then(() => null)")
    page.wait_for_timeout(100)
    yield page, requests, faults
    page.close()


@pytest.fixture(scope="module")
def visit(request, contexts, addresses):
    """One page in one view; pytest runs all tests of a visit before it opens the next."""
    view, name = request.param
    with opened(contexts[view], addresses[view], name) as (page, requests, faults):
        yield page, requests, faults, name


@everywhere
def test_a_page_loads_whole_without_an_error_and_asks_no_other_host(visit):
    page, requests, faults, _ = visit
    assert faults == []
    assert len(requests) > 5
    assert page.evaluate(
        "[...document.images].filter((i) => i.getClientRects().length"
        " && !(i.complete && i.naturalWidth && i.alt.trim())).map((i) => i.outerHTML)"
    ) == []  # fmt: skip


@everywhere
def test_mathematics_is_typeset(visit):
    page, *_ = visit
    wrong, text = page.evaluate("""() => {
        const all = [...document.querySelectorAll("mjx-container")];
        const wrong = all.filter((e) => !e.querySelector("svg") || e.querySelector(
            "[data-mml-node=merror], [data-mjx-error]")).map((e) => e.outerHTML);
        const clone = document.querySelector("article, main").cloneNode(true);
        clone.querySelectorAll("pre, code, script, mjx-container").forEach((e) => e.remove());
        return [wrong, clone.textContent];
    }""")
    assert wrong == []
    assert not re.search(r"\$\$|\\\(|\\\[|\\begin\{", text)


@everywhere
def test_a_page_is_no_wider_than_the_screen(visit):
    page, *_ = visit
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@on_the_phone
def test_figures_reach_from_edge_to_edge_of_a_phone(visit):
    # So wide that the words in them can be read: see test_figures.py.
    page, *_ = visit
    widths = page.evaluate(
        "[...document.querySelectorAll('article figure img')].map((i) => i.clientWidth)"
    )
    assert all(width >= PHONE for width in widths)


def cells_of(name: str) -> list[dict]:
    """The cells of a page's notebook; none for a page that is no notebook."""
    notebook = ROOT / Path(name).with_suffix(".ipynb")
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"] if notebook.is_file() else []


@on_the_desk
def test_copy_buttons_copy_the_code_and_nothing_else(visit):
    page, _, _, name = visit
    copies = page.evaluate("""async () => {
        const copies = [];
        for (const button of document.querySelectorAll("button.copybtn")) {
            await navigator.clipboard.writeText("");
            button.click();
            copies.push([document.querySelector(button.dataset.clipboardTarget).textContent,
                await navigator.clipboard.readText()]);
        }
        return copies;
    }""")
    assert page.locator(".cell_output .copybtn").count() == 0
    copied = [copy.strip("\n") for _, copy in copies]
    code = ["".join(c["source"]).strip("\n") for c in cells_of(name) if c["cell_type"] == "code"]
    assert [copy for copy in copied if copy in code] == code
    for (shown, _), copy in zip(copies, copied, strict=True):
        lines = shown.strip("\n").split("\n")
        prompts = re.compile(r">>> |\.\.\. |\$ ")
        if any(map(prompts.match, lines)):
            lines = [prompts.sub("", line, count=1) for line in lines if prompts.match(line)]
        assert copy == "\n".join(lines)


@on_the_desk
def test_folded_parts_open_and_shut_by_key_and_by_mouse(visit):
    page, _, _, name = visit
    folds = page.locator("article details").all()
    hidden = [c for c in cells_of(name) if "hide-cell" in c["metadata"].get("tags", [])]
    assert len(folds) == len(hidden) or not cells_of(name)
    for fold in folds:
        summary = fold.locator("summary").first
        states = [fold.get_attribute("open") is not None]
        for act in (partial(summary.press, "Enter"), partial(summary.press, " "), summary.click):
            act()
            states.append(fold.get_attribute("open") is not None)
        assert states == [False, True, False, True]


@everywhere
def test_nothing_serious_stands_in_the_way_of_a_screen_reader_or_a_weak_eye(visit):
    page, *_ = visit
    # The words of code have a test of their own: on each page, axe would look at each one's colour.
    page.evaluate(
        "document.querySelectorAll('pre').forEach((e) => { e.textContent = e.textContent; })"
    )
    assert serious(page) == []


@on_the_desk
def test_a_printed_page_shows_everything_and_cuts_nothing_off(visit):
    # The last test of a visit: the page keeps its printed form.
    page, *_ = visit
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 658, "height": 980})  # A4 within its margins
    hidden, wide, cut, around = page.evaluate("""() => {
        const article = document.querySelector("article, main");
        const edge = article.getBoundingClientRect().right + 1;
        const all = (names) => [...article.querySelectorAll(names)];
        return [
            all("pre").filter((e) => !e.checkVisibility()),
            all("pre, .sig, table, img, div.math, mjx-container > svg").filter((e) =>
                e.getBoundingClientRect().right > edge),
            all("pre, .sig, table, div.math").filter((e) => e.scrollWidth > e.clientWidth + 1),
            [...document.querySelectorAll(".bd-sidebar, .bd-header-article, .copybtn, footer")]
                .filter((e) => e.checkVisibility()),
        ].map((some) => some.map((e) => e.outerHTML.slice(0, 200)));
    }""")
    assert hidden == []
    assert wide == []
    assert cut == []
    assert around == []


@pytest.mark.parametrize("view", VIEWS)
def test_the_colours_of_code_are_strong_enough(contexts, addresses, view):
    texts = "".join((HTML / page).read_text(encoding="utf-8") for page in PAGES)
    kinds = sorted(set(re.findall(r'<span class="([a-z][a-z0-9]{0,2})">', texts)))
    assert len(kinds) > 20
    with opened(contexts[view], addresses[view], "book/faq.html") as (page, *_):
        page.evaluate(
            """(kinds) => {
                const code = kinds.map((kind) => `<span class="${kind}">${kind}</span>`).join(" ");
                document.querySelector("article").innerHTML =
                    `<div class="highlight"><pre id="sample" tabindex="0">${code}</pre></div>`;
            }""",
            kinds,
        )
        assert serious(page) == []


def serious(page) -> list[tuple[str, str]]:
    """What axe-core calls serious or critical: the rule, and the element that breaks it."""
    # A fold that has just been opened fades in, and half faded its words are pale.
    page.evaluate("document.getAnimations().forEach((a) => a.finish())")
    options = {"resultTypes": ["violations"], "preload": False}
    return [
        (rule["id"], node["html"][:200])
        for rule in Axe().run(page, options=options).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def test_some_pages_have_mathematics_and_folds_and_code_to_copy():
    texts = [(HTML / page).read_text(encoding="utf-8") for page in PAGES]
    for mark in ("mathjax/tex-svg", "<details", 'class="cell_input'):
        assert sum(mark in text for text in texts) > 3, mark


def test_a_click_on_a_copy_button_copies(contexts, addresses):
    for view in VIEWS:
        with opened(contexts[view], addresses[view], "notebooks/00_quickstart.html") as (page, *_):
            cell = page.locator("div.cell_input").first
            cell.hover()
            cell.locator("button.copybtn").click()
            copied = page.evaluate("navigator.clipboard.readText()")
            assert copied.strip() == cell.locator("pre").text_content().strip()


@pytest.mark.parametrize("by_key", [False, True])
def test_the_theme_switch_goes_round_and_is_remembered(browser, addresses, by_key):
    context = browser.new_context(**VIEWS["desk"])
    with opened(context, addresses["desk"], "book/index.html") as (page, _, faults):
        switch = page.locator(".theme-switch-button:visible").first
        seen = {}
        for _ in range(3):
            switch.press("Enter") if by_key else switch.click()
            page.wait_for_timeout(500)
            page.reload()
            mode = page.evaluate("document.documentElement.dataset.mode")
            seen[mode] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert set(seen) == {"auto", "light", "dark"}
        assert seen["auto"] == seen["light"] != seen["dark"]
        assert faults == []
    context.close()


@pytest.mark.parametrize("words", SEARCHES)
def test_search_finds_the_right_page(contexts, addresses, words):
    with opened(contexts["disk"], addresses["disk"], f"search.html?q={words}") as (page, _, faults):
        assert SEARCHES[words] in results(page)[:6]
        assert faults == []


def results(page) -> list[str]:
    """The pages that a finished search found, best first."""
    page.locator("#search-results .search-summary", has_text=re.compile("found|did not")).wait_for()
    links = page.locator("#search-results ul.search > li > a").all()
    return [link.get_attribute("href").split("#")[0].split("?")[0] for link in links]


@pytest.mark.parametrize("view", VIEWS)
def test_a_word_typed_into_the_search_field_leads_to_its_page(contexts, addresses, view):
    with opened(contexts[view], addresses[view], "book/faq.html") as (page, _, faults):
        page.keyboard.press("Control+k")
        page.keyboard.type("bootstrap")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?*")
        assert len(results(page)) > 1
        page.locator("#search-results ul.search > li > a").first.click()
        page.wait_for_url(lambda address: "search.html" not in address)
        assert "bootstrap" in page.locator("article").inner_text().lower()
        assert faults == []


def test_search_says_when_it_finds_nothing(contexts, addresses):
    with opened(contexts["disk"], addresses["disk"], "search.html?q=zzyzx") as (page, *_):
        assert results(page) == []


def test_the_whole_book_becomes_one_pdf_with_bookmarks(browser, tmp_path):
    target = tmp_path / "book.pdf"
    command = [sys.executable, str(ROOT / "tools" / "pdf.py"), str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    data = target.read_bytes()
    assert data.startswith(b"%PDF-")
    assert data.count(b"/Type /Page\n") > 100
    assert b"/Type /Outlines" in data
    assert data.count(b"/Dest ") > 500  # links within the book
    assert b"file:" not in data
    for bookmark in (b"Contents", b"Glossary", b"5. What should Q be?", b"API reference"):
        assert b"/Title (" + bookmark + b")" in data, bookmark


@pytest.mark.parametrize("view", VIEWS)
def test_the_first_address_leads_to_the_first_page(contexts, addresses, view):
    page = contexts[view].new_page()
    page.goto(f"{addresses[view]}/index.html")
    page.wait_for_url("**/book/index.html")
    page.close()


def test_the_watch_itself_sees_what_goes_wrong(contexts, tmp_path):
    (tmp_path / "page.html").write_text(
        "<html><head><script src='https://cdn.example.org/a.js'></script></head><body><main>"
        "<p style='color: #ccc; background: #fff'>pale</p><img src='missing.png'>"
        "<script>nothing.there()</script></main></body></html>"
    )
    handler = partial(QuietHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_address[1]}"
    with opened(contexts["desk"], home, "page.html") as (page, _, faults):
        assert "another host: https://cdn.example.org/a.js" in faults
        assert f"404: {home}/missing.png" in faults
        assert any("nothing is not defined" in fault for fault in faults)
        assert {rule for rule, _ in serious(page)} >= {"color-contrast", "image-alt"}
    server.shutdown()
