"""The book in a real browser: headless Chromium, and a local server that watches.

The server sends every page with a content policy that forbids other hosts, and Chromium reports
what it refused; and it puts a line before the page's own scripts that keeps what goes wrong.
"""

import html
import json
import os
import re
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

HTML = Path(__file__).resolve().parent.parent / "_build" / "html"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
CHAPTERS = [
    path.relative_to(HTML).as_posix()
    for folder in ("book", "notebooks")
    for path in sorted((HTML / folder).glob("*.html"))
]
each_page = pytest.mark.parametrize("page", CHAPTERS)

# Loads a page into a frame of a given width and reports what it finds there.
PROBE = """<!doctype html><title>probe</title><link rel="icon" href="data:,">
<body style="margin:0"><pre id="report"></pre>
<script>
const wanted = new URLSearchParams(location.search);
const frame = document.createElement("iframe");
frame.style = `border:0; width:${wanted.get("width")}px; height:900px`;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
function level(color) {  // relative luminance, WCAG 2
  const part = color.match(/[\\d.]+/g).map(Number);
  const [r, g, b] = part.slice(0, 3).map((c) => (c /= 255) <= 0.04045 ? c / 12.92
    : ((c + 0.055) / 1.055) ** 2.4);
  return part.length > 3 && part[3] === 0 ? null : 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(view, element) {
  const front = level(view.getComputedStyle(element).color);
  let back = null;
  for (let at = element; at && back === null; at = at.parentElement)
    back = level(view.getComputedStyle(at).backgroundColor);
  if (back === null) back = 1;
  return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
}
frame.onload = async () => {
  const view = frame.contentWindow, page = view.document, report = {};
  if (page.querySelector("script[src*=mathjax]")) await view.MathJax.startup.promise;
  await pause(300);
  const mode = wanted.get("mode");
  page.documentElement.dataset.theme = mode;
  page.documentElement.dataset.mode = mode;
  await pause(600);
  report.wrong = view.wrong;
  report.math = page.querySelectorAll("mjx-container").length;
  report.untypeset = [...page.querySelectorAll("mjx-container")]
    .filter((e) => !e.querySelector("svg")).map((e) => e.outerHTML);
  report.mathErrors = [...page.querySelectorAll("mjx-merror, [data-mjx-error]")]
    .map((e) => e.dataset.mjxError || e.textContent);
  const clone = page.querySelector("article, main").cloneNode(true);
  clone.querySelectorAll("pre, code, script, mjx-container").forEach((e) => e.remove());
  report.text = clone.textContent;
  report.tooWide = page.documentElement.scrollWidth - page.documentElement.clientWidth;
  report.broken = [...page.images].filter((i) => i.complete && i.getClientRects().length
    && !i.naturalWidth).map((i) => i.src);
  report.background = level(view.getComputedStyle(page.body).backgroundColor);
  report.contrast = [...page.querySelectorAll("article p, article li, article h1, article h2")]
    .filter((e) => e.getClientRects().length && e.textContent.trim())
    .map((e) => [contrast(view, e), e.textContent.trim().slice(0, 60)])
    .sort((a, b) => a[0] - b[0])[0];
  report.toggles = [...page.querySelectorAll("article details, article .toggle")].map((box) => {
    const shut = box.tagName === "DETAILS" ? !box.open : box.classList.contains("toggle-hidden");
    const button = box.tagName === "DETAILS" ? box.querySelector("summary")
      : box.querySelector("button.toggle-button");
    button.click();
    const open = box.tagName === "DETAILS" ? box.open : !box.classList.contains("toggle-hidden");
    return [shut, open];
  });
  const copied = [];
  page.execCommand = () => { copied.push(page.getSelection().toString()
    || (page.activeElement && page.activeElement.value) || ""); return true; };
  report.copies = [];
  for (const button of page.querySelectorAll("button.copybtn")) {
    const code = page.querySelector(button.dataset.clipboardTarget).textContent;
    button.click();
    report.copies.push([code, copied[copied.length - 1] ?? null]);
  }
  document.getElementById("report").textContent = JSON.stringify(report);
};
frame.src = wanted.get("page");
document.body.append(frame);
</script>"""


# Keeps errors of scripts, of missing files and on the console.
WATCH = """<script>window.wrong = [];
const gone = (e) => "not loaded: " + e.target.outerHTML;
addEventListener("error", (e) => wrong.push(e.message || gone(e)), true);
addEventListener("unhandledrejection", (e) => wrong.push(String(e.reason)));
console.error = (...words) => wrong.push(words.join(" "));
</script>"""
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; report-uri /refused"


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, directory=str(HTML), **named)

    def do_GET(self) -> None:
        path = HTML / self.path.split("?")[0].lstrip("/")
        if self.path.startswith("/probe?"):
            self.send_page(PROBE)
        elif path.suffix == ".html" and path.is_file():
            self.send_page(path.read_text(encoding="utf-8").replace("<head>", "<head>" + WATCH, 1))
        else:
            super().do_GET()

    def send_page(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self) -> None:
        report = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.refused.append(json.loads(report)["csp-report"]["blocked-uri"])
        self.send_response(204)
        self.end_headers()

    def log_request(self, code="-", size="-") -> None:
        self.server.answers.append((int(code), self.path))

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def server():
    for found, what in [
        (CHAPTERS, "the book is not built: run `make book` (`make test` does so first)"),
        (CHROMIUM, "Chromium is not installed. Debian, Ubuntu:  sudo apt install chromium"),
    ]:
        if not found:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.answers, served.refused = [], []
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()


def visit(server, address: str, folder: Path) -> str:
    """The page's content after its scripts have run."""
    server.answers.clear()
    server.refused.clear()
    host = f"127.0.0.1:{server.server_address[1]}"
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={folder}",
        "--window-size=1400,1000", "--virtual-time-budget=20000", "--dump-dom",
        f"http://{host}/{address}",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def probe(server, page: str, folder: Path, width: int, mode: str) -> dict:
    """What PROBE reports of a page, and what the server saw meanwhile."""
    content = visit(server, f"probe?page=/{page}&width={width}&mode={mode}", folder)
    text = re.search(r'<pre id="report">(.*?)</pre>', content, re.S).group(1)
    assert text, "the page did not come to rest"
    seen = {"answers": list(server.answers), "refused": list(server.refused)}
    return json.loads(html.unescape(text)) | seen


@pytest.fixture(scope="module")
def wide(server, tmp_path_factory):
    """Each page once, on a wide light screen."""
    reports = {}

    def report(page: str) -> dict:
        if page not in reports:
            folder = tmp_path_factory.mktemp("wide")
            reports[page] = probe(server, page, folder, 1300, "light")
        return reports[page]

    return report


@each_page
def test_a_page_loads_whole_without_an_error_and_asks_no_other_host(wide, page):
    report = wide(page)
    assert report["refused"] == []
    assert report["wrong"] == []
    assert {code for code, _ in report["answers"]} == {200}, report["answers"]
    assert len(report["answers"]) > 5
    assert report["broken"] == []


@each_page
def test_mathematics_is_typeset(wide, page):
    report = wide(page)
    assert report["untypeset"] == []
    assert report["mathErrors"] == []
    assert not re.search(r"\$\$|\\\(|\\\[|\\begin\{", report["text"])


def test_some_pages_hold_mathematics(wide):
    assert sum(wide(page)["math"] > 0 for page in CHAPTERS) >= 2


@each_page
def test_copy_buttons_copy_the_code(wide, page):
    for code, copied in wide(page)["copies"]:
        assert copied is not None
        without_prompts = re.sub(r"^(>>> |\.\.\. |\$ )", "", code, flags=re.M)
        assert copied.split() == without_prompts.split()


@each_page
def test_folded_parts_are_shut_and_open_at_a_click(wide, page):
    assert all(shut and open_ for shut, open_ in wide(page)["toggles"])


@each_page
def test_a_page_is_readable_at_phone_width_and_in_the_dark(server, tmp_path, page):
    report = probe(server, page, tmp_path, 390, "dark")
    assert report["tooWide"] <= 0
    assert report["background"] < 0.1
    assert report["contrast"][0] > 4.5, report["contrast"]


def test_the_watch_itself_sees_a_remote_script_a_missing_file_and_a_broken_script(
    server, tmp_path, monkeypatch
):
    page = tmp_path / "page.html"
    page.write_text(
        "<html><head><script src='https://cdn.example.org/a.js'></script></head><body><main>"
        "<img src='missing.png' alt=''><script>nothing.there()</script></main></body></html>"
    )
    monkeypatch.setattr("test_browser.HTML", tmp_path)
    report = probe(server, "page.html", tmp_path / "profile", 800, "light")
    assert report["refused"] == ["https://cdn.example.org/a.js"]
    assert (404, "/missing.png") in report["answers"]
    assert len(report["wrong"]) == 3
