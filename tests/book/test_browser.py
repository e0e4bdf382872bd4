"""The book in a real browser: headless Chromium, driven by Playwright, with real keys and clicks.

Every page is opened twice: from a local server on a wide light screen, and from disk, as a reader
of the unpacked book opens it, on a narrow dark one. A visit tries all that the page promises and
lists whatever is wrong. Nothing here waits for a time to pass: each wait is for a condition.
"""

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from figures import PHONE
from playwright.sync_api import BrowserContext, Locator, Page, expect, sync_playwright
from test_form import PENDING

from notebooks import FOLDED

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
MILLISECONDS = 60_000  # until a condition that does not come true counts as a fault
# One listing of our source, the shortest, stands for all: Sphinx makes them.
LISTING = "_modules/dqnrec_lite/targets.html"
# The themes' own templates lie among the static files; index.html only leads to the first page.
PAGES = [
    name
    for name in (path.relative_to(HTML).as_posix() for path in sorted(HTML.rglob("*.html")))
    if name == LISTING or not name.startswith(("_modules/", "_static/", "index.html"))
]
# Axe takes longer than all else. In the dark it looks at these: what differs there is colours, and
# those belong to kinds of elements.
DARK = ("book/errata.html", "book/glossary.html", "notebooks/05_bellman_targets.html")
VIEWS = {
    "desk": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "disk": {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"},
}
SEARCHES = {
    "discount": "book/api.html",
    "replay buffer": "notebooks/07_replay.html",
    "target network": "notebooks/08_target_network.html",
    "LinUCB": "notebooks/11_evaluation.html",
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


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of our own, on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    for found, what in [
        (PAGES, "the book is not built: run `make book` (`make test` does so first)"),
        (CHROMIUM, "Chromium is not installed. Debian, Ubuntu:  sudo apt install chromium"),
    ]:
        if not found:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
    expect.set_options(timeout=MILLISECONDS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=MILLISECONDS
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """Where each view finds the book: on a server of ours, and in a folder somewhere else."""
    folder = shutil.copytree(HTML, tmp_path_factory.mktemp("reader") / "The book, unpacked")
    with served(HTML) as address:
        yield {"desk": address, "disk": folder.as_uri()}


@pytest.fixture(scope="module")
def contexts(browser):
    """A fresh profile for each view."""
    made = {name: browser.new_context(**view) for name, view in VIEWS.items()}
    for context in made.values():
        context.set_default_timeout(MILLISECONDS)
    return made


@dataclass
class Visit:
    """An open page, what it asked for, and what went wrong so far."""

    page: Page
    requests: list[str]
    faults: list[str]


TYPESET = "Promise.all([window.MathJax?.startup?.promise, document.fonts.ready]).then(() => null)"
# Visible pictures are there, and each piece of code has its button: the script that makes the
# buttons looks again and again for the library which it needs.
COMPLETE = """() => [...document.images].every((i) => i.complete || !i.getClientRects().length)
    && document.querySelectorAll("div:not(.output) > div.highlight > pre").length
        === document.querySelectorAll("button.copybtn").length"""
IDLE = "new Promise((done) => requestAnimationFrame(() => requestIdleCallback(() => done())))"


@contextmanager
def opened(context: BrowserContext, home: str, address: str) -> Iterator[Visit]:
    """A page at rest."""
    page = context.new_page()
    visit = Visit(page, [], [])

    def note_console(message) -> None:
        if message.type in ("error", "warning"):
            visit.faults.append(f"console: {message.text}")

    def note_request(request) -> None:
        if request.url.startswith(("http", "file", "ws")):
            visit.requests.append(request.url)
            if not request.url.startswith(home + "/"):
                visit.faults.append(f"another host: {request.url}")

    def note_response(response) -> None:
        if response.status >= 400:
            visit.faults.append(f"{response.status}: {response.url}")

    page.on("console", note_console)
    page.on("pageerror", lambda error: visit.faults.append(f"script: {error}"))
    page.on("requestfailed", lambda request: visit.faults.append(f"not loaded: {request.url}"))
    page.on("request", note_request)
    page.on("response", note_response)
    page.goto(f"{home}/{address}")
    page.evaluate(TYPESET)
    page.wait_for_function(COMPLETE)
    page.evaluate(IDLE)
    yield visit
    page.close()


# --- One visit to each page in each view ---------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_visit_meets_no_fault(contexts, addresses, view, name):
    with opened(contexts[view], addresses[view], name) as visit:
        page = visit.page
        found = [*missing_images(page), *raw_mathematics(page), *too_wide(page)]
        if view == "disk":
            found += small_figures(page) + uncued(page)
        else:
            found += wrong_copies(page, name)
            found += stuck_folds(page, name)  # afterwards all are open
            found += clipped(page, name)
        if view == "desk" or name in DARK:
            found += serious(page)
        if view == "desk":
            found += lost_in_print(page)  # last: the page keeps its printed form
        if len(visit.requests) <= 5:
            found.append(f"asked for {len(visit.requests)} files only: the watch sees nothing")
        assert not [*visit.faults, *found], "\n".join([name, *visit.faults, *found])


def missing_images(page: Page) -> list[str]:
    return page.evaluate("""() => [...document.images].filter((i) => i.getClientRects().length
        && !(i.complete && i.naturalWidth && i.alt.trim()))
        .map((i) => `image missing or not described: ${i.outerHTML.slice(0, 200)}`)""")


def raw_mathematics(page: Page) -> list[str]:
    return page.evaluate(r"""() => {
        const wrong = [...document.querySelectorAll("mjx-container")].filter((e) =>
            !e.querySelector("svg") || e.querySelector("[data-mml-node=merror], [data-mjx-error]"));
        const clone = document.querySelector("article, main").cloneNode(true);
        clone.querySelectorAll("pre, code, script, mjx-container").forEach((e) => e.remove());
        const raw = clone.textContent.match(/.{0,40}(\$\$|\\\(|\\\[|\\begin\{).{0,40}/g) ?? [];
        return [...wrong.map((e) => e.outerHTML.slice(0, 200)), ...raw]
            .map((text) => `mathematics not typeset: ${text}`);
    }""")


def too_wide(page: Page) -> list[str]:
    beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return [f"the page is {beyond} pixels wider than the screen"] if beyond > 0 else []


def clipped(page: Page, name: str) -> list[str]:
    """Code and what it prints, where one must scroll to read a line, on a screen of this width."""
    if Path(name).stem in PENDING or name.startswith("_modules/"):
        return []
    return page.evaluate("""() => [...document.querySelectorAll("article pre")]
        .filter((e) => e.scrollWidth > e.clientWidth + 1)
        .map((e) => `${e.scrollWidth - e.clientWidth} pixels cut: ${e.textContent}`)""")


def uncued(page: Page) -> list[str]:
    """Boxes that scroll on a phone and do not show it: the shade at the edge is not there."""
    return page.evaluate("""() => [...document.querySelectorAll("article pre")]
        .filter((e) => e.scrollWidth > e.clientWidth + 1)
        .filter((e) => getComputedStyle(e).backgroundAttachment.indexOf("local") < 0)
        .map((e) => `no sign that it scrolls: ${e.textContent.slice(0, 200)}`)""")


def small_figures(page: Page) -> list[str]:
    """Figures narrower than a phone; words in them could not be read (see test_figures.py)."""
    widths = page.evaluate(
        "[...document.querySelectorAll('article figure img')].map((i) => i.clientWidth)"
    )
    return [f"a figure is {width} pixels wide on a phone" for width in widths if width < PHONE]


def cells_of(name: str) -> list[dict]:
    """The cells of a page's notebook; none for a page that is no notebook."""
    notebook = ROOT / Path(name).with_suffix(".ipynb")
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"] if notebook.is_file() else []


def wrong_copies(page: Page, name: str) -> list[str]:
    """What the copy buttons put on the clipboard beside what is shown, and beside the notebook.

    Taken from the event in which the browser hands the text over, at once and in this page: what
    reaches the system's clipboard, and when, is its own affair, and other programs write to it.
    """
    copies = page.evaluate("""() => {
        const copies = [];
        let copied = null;
        const record = (event) => {
            const { value, selectionStart, selectionEnd } = event.target;
            copied = value?.slice(selectionStart, selectionEnd) ?? String(getSelection());
            event.preventDefault();
        };
        document.addEventListener("copy", record);
        for (const button of document.querySelectorAll("button.copybtn")) {
            copied = null;
            button.click();
            const shown = document.querySelector(button.dataset.clipboardTarget).textContent;
            copies.push([shown, copied]);
        }
        document.removeEventListener("copy", record);
        return copies;
    }""")
    found = [f"nothing copied: {shown}" for shown, copied in copies if copied is None]
    copies = [(shown, copied.strip("\n")) for shown, copied in copies if copied is not None]
    code = ["".join(c["source"]).strip("\n") for c in cells_of(name) if c["cell_type"] == "code"]
    if [copied for _, copied in copies if copied in code] != code:
        found.append("the copies are not the notebook's cells of code, each once and in order")
    if page.locator(".cell_output .copybtn").count():
        found.append("an output has a copy button")
    prompts = re.compile(r">>> |\.\.\. |\$ ")
    for shown, copied in copies:
        lines = shown.strip("\n").split("\n")
        if any(map(prompts.match, lines)):
            lines = [prompts.sub("", line, count=1) for line in lines if prompts.match(line)]
        if copied != "\n".join(lines):
            found.append(f"copied {copied!r} where {shown!r} is shown")
    return found


def stuck_folds(page: Page, name: str) -> list[str]:
    """Folded parts that do not open and shut by key and by mouse; afterwards all are open."""
    folds = page.locator("article details").all()
    hidden = [c for c in cells_of(name) if FOLDED.keys() & set(c["metadata"].get("tags", []))]
    if cells_of(name) and len(folds) != len(hidden):
        return [f"{len(folds)} folds on the page, {len(hidden)} in the notebook"]
    return [f"fold {number}: {fault}" for number, fold in enumerate(folds) for fault in stuck(fold)]


def stuck(fold: Locator) -> list[str]:
    summary = fold.locator("summary").first
    acts = {
        "at first": lambda: None,
        "by Enter": lambda: summary.press("Enter"),
        "by space": lambda: summary.press(" "),
        "by mouse": summary.click,
    }
    for (how, act), is_open in zip(acts.items(), (False, True, False, True), strict=True):
        act()
        try:
            expect(fold).to_have_js_property("open", is_open)
        except AssertionError:
            return [f"{how} not {'open' if is_open else 'shut'}"]
    return []


def serious(page: Page) -> list[str]:
    """What axe-core calls serious or critical: the rule, and the element that breaks it.

    Colours of code are left to a test of their own: axe would look at each word on each page.
    """
    page.evaluate("""() => {
        document.querySelectorAll("pre").forEach((e) => { e.textContent = e.textContent; });
        // A fold that has just been opened fades in, and half faded its words are pale.
        document.getAnimations().forEach((a) => a.finish());
    }""")
    return axe(page)


def axe(page: Page) -> list[str]:
    options = {"resultTypes": ["violations"], "preload": False}
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in Axe().run(page, options=options).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def lost_in_print(page: Page) -> list[str]:
    """What a printed page does not show whole, and what belongs to the screen only."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 658, "height": 980})  # A4 within its margins
    page.evaluate(IDLE)
    return page.evaluate("""() => {
        const article = document.querySelector("article, main");
        const edge = article.getBoundingClientRect().right + 1;
        const all = (names) => [...article.querySelectorAll(names)];
        const found = {
            "not printed": all("pre").filter((e) => !e.checkVisibility()),
            "beyond the paper's edge": all("pre, .sig, table, img, div.math, mjx-container > svg")
                .filter((e) => e.getBoundingClientRect().right > edge),
            "cut off in print": all("pre, .sig, table, div.math")
                .filter((e) => e.scrollWidth > e.clientWidth + 1),
            "printed, though of no use on paper": [...document.querySelectorAll(
                ".bd-sidebar, .bd-header-article, .copybtn, footer")]
                .filter((e) => e.checkVisibility()),
        };
        return Object.entries(found).flatMap(([fault, elements]) =>
            elements.map((e) => `${fault}: ${e.outerHTML.slice(0, 200)}`));
    }""")


def test_some_pages_have_mathematics_and_folds_and_code_to_copy():
    texts = [(HTML / page).read_text(encoding="utf-8") for page in PAGES]
    for mark in ("mathjax/tex-svg", "<details", 'class="cell_input'):
        assert sum(mark in text for text in texts) > 3, mark


BROKEN = """\
<html><head><script src="https://cdn.example.org/a.js"></script></head><body><main><article>
<p style="color: #ccc; background: #fff">pale</p><img src="missing.png">
<p>\\(raw mathematics\\)</p><div style="width: 2000px">wide</div>
<figure><img src="data:image/png;base64," style="width: 20px" alt="small"></figure>
<details><summary onclick="event.preventDefault()">A fold that stays shut</summary></details>
<div><div class="highlight"><pre id="a">shown</pre></div><button class="copybtn"
data-clipboard-target="#a" onclick="copy('another text')">copies something else</button></div>
<div><div class="highlight"><pre id="b" style="width: 50px; overflow: auto"
>silent_and_cut_off</pre></div><button class="copybtn" data-clipboard-target="#b">.</button></div>
<script>
function copy(text) {
    const field = document.body.appendChild(document.createElement("textarea"));
    field.value = text;
    field.select();
    document.execCommand("copy");
    field.remove();
}
nothing.there()
</script></article></main></body></html>"""


def test_a_visit_sees_what_is_wrong(contexts, tmp_path):
    (tmp_path / "page.html").write_text(BROKEN)
    with served(tmp_path) as home, opened(contexts["desk"], home, "page.html") as visit:
        page, faults = visit.page, visit.faults
        assert "another host: https://cdn.example.org/a.js" in faults
        assert f"404: {home}/missing.png" in faults
        assert any("nothing is not defined" in fault for fault in faults)
        assert len(missing_images(page)) == 2
        assert len(raw_mathematics(page)) == len(too_wide(page)) == len(small_figures(page)) == 1
        assert len(clipped(page, "page.html")) == len(uncued(page)) == 1
        assert wrong_copies(page, "page.html") == [
            "nothing copied: silent_and_cut_off",
            "copied 'another text' where 'shown' is shown",
        ]
        expect.set_options(timeout=500)
        assert stuck_folds(page, "page.html") == ["fold 0: by Enter not open"]
        expect.set_options(timeout=MILLISECONDS)
        assert {fault.split(":")[0] for fault in serious(page)} >= {"color-contrast", "image-alt"}
        assert {fault.split(":")[0] for fault in lost_in_print(page)} >= {
            "cut off in print",
            "printed, though of no use on paper",
        }


# --- What needs a page or a click of its own -----------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_the_colours_of_code_are_strong_enough(contexts, addresses, view):
    texts = "".join((HTML / page).read_text(encoding="utf-8") for page in PAGES)
    kinds = sorted(set(re.findall(r'<span class="([a-z][a-z0-9]{0,2})">', texts)))
    assert len(kinds) > 20
    with opened(contexts[view], addresses[view], "book/faq.html") as visit:
        visit.page.evaluate(
            """(kinds) => {
                const code = kinds.map((kind) => `<span class="${kind}">${kind}</span>`).join(" ");
                document.querySelector("article").innerHTML =
                    `<div class="highlight"><pre id="sample" tabindex="0">${code}</pre></div>`;
            }""",
            kinds,
        )
        assert axe(visit.page) == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_click_on_a_copy_button_fills_the_clipboard(browser, addresses, view):
    context = browser.new_context(**VIEWS[view])
    context.set_default_timeout(MILLISECONDS)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    with opened(context, addresses[view], "notebooks/00_quickstart.html") as visit:
        cell = visit.page.locator("div.cell_input:visible").first
        cell.hover()
        cell.locator("button.copybtn").click()
        visit.page.wait_for_function(
            """(shown) => {
                navigator.clipboard.readText().then((text) => { window.copied = text.trim(); });
                return window.copied === shown;
            }""",
            arg=cell.locator("pre").text_content().strip(),
        )
    context.close()


@pytest.mark.parametrize("by_key", [False, True])
def test_the_theme_switch_goes_round_and_is_remembered(browser, addresses, by_key):
    context = browser.new_context(**VIEWS["desk"])
    context.set_default_timeout(MILLISECONDS)
    with opened(context, addresses["desk"], "book/index.html") as visit:
        page = visit.page
        switch = page.locator(".theme-switch-button:visible").first
        mode, seen = page.evaluate("document.documentElement.dataset.mode"), {}
        for _ in range(3):
            switch.press("Enter") if by_key else switch.click()
            page.wait_for_function(
                "(old) => document.documentElement.dataset.mode !== old", arg=mode
            )
            page.reload()
            mode = page.evaluate("document.documentElement.dataset.mode")
            seen[mode] = page.evaluate("""() => {
                document.getAnimations().forEach((a) => a.finish());
                return getComputedStyle(document.body).backgroundColor;
            }""")
        assert set(seen) == {"auto", "light", "dark"}
        assert seen["auto"] == seen["light"] != seen["dark"]
        assert visit.faults == []
    context.close()


def results(page: Page) -> list[str]:
    """The pages that a finished search found, best first."""
    page.locator("#search-results .search-summary", has_text=re.compile("found|did not")).wait_for()
    links = page.locator("#search-results ul.search > li > a").all()
    return [link.get_attribute("href").split("#")[0].split("?")[0] for link in links]


def test_each_search_finds_its_page_among_the_first_six_pages(contexts, addresses):
    lost = {}
    for words, wanted in SEARCHES.items():
        with opened(contexts["disk"], addresses["disk"], f"search.html?q={words}") as visit:
            found = list(dict.fromkeys(results(visit.page)))[:6]
            if wanted not in found or visit.faults:
                lost[words] = (wanted, found, visit.faults)
    assert lost == {}


def test_search_says_when_it_finds_nothing(contexts, addresses):
    with opened(contexts["disk"], addresses["disk"], "search.html?q=zzyzx") as visit:
        assert results(visit.page) == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_word_typed_into_the_search_field_leads_to_its_page(contexts, addresses, view):
    with opened(contexts[view], addresses[view], "book/faq.html") as visit:
        page = visit.page
        page.keyboard.press("Control+k")
        expect(page.locator("input[type=search]:focus")).to_be_visible()
        page.keyboard.type("bootstrap")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?*")
        assert len(results(page)) > 1
        page.locator("#search-results ul.search > li > a").first.click()
        page.wait_for_url(lambda address: "search.html" not in address)
        expect(page.locator("article")).to_contain_text("bootstrap", ignore_case=True)
        assert visit.faults == []


@pytest.mark.parametrize("view", VIEWS)
def test_the_first_address_leads_to_the_first_page(contexts, addresses, view):
    page = contexts[view].new_page()
    page.goto(f"{addresses[view]}/index.html")
    page.wait_for_url("**/book/index.html")
    page.close()
