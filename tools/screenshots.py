"""Take the README's pictures of the built book: `python tools/screenshots.py` (needs Chromium)."""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image, ImageOps
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
TARGET = ROOT / "book" / "screenshots"  # not _static: the built book has no use for them
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# File -> page, what to scroll to, theme, width, pixels for one of CSS. All are equally high.
PICTURES = {
    "chapter.png": ("02_shop_as_mdp", "#what-is-a-session-worth", "light", 1024, 1),
    "dark.png": ("09_training", "#promised-and-earned", "dark", 1024, 1),
    "phone.png": ("00_quickstart", "#fig-ch00-scores", "light", 360, 2),
}
HEIGHT = 768


def main() -> None:
    if not HTML.is_dir():
        sys.exit("The book is not built: run `make book` first.")
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        sys.exit("Chromium is not installed. Debian, Ubuntu:  sudo apt install chromium")
    TARGET.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (chapter, place, theme, width, scale) in PICTURES.items():
            page = browser.new_page(
                viewport={"width": width, "height": HEIGHT},
                device_scale_factor=scale,
                color_scheme=theme,
            )
            page.goto(f"{HTML.as_uri()}/notebooks/{chapter}.html")
            page.evaluate("window.MathJax?.startup?.promise.then(() => null)")
            page.evaluate("(s) => document.querySelector(`article ${s}`).scrollIntoView()", place)
            page.wait_for_timeout(500)
            shot = Image.open(io.BytesIO(page.screenshot()))
            shot = ImageOps.expand(
                shot.convert("RGB"), 2 * scale, "#d1d5db"
            )  # an edge on white pages
            # A palette of 64 colours is enough for words and lines, and a third of the size.
            shot.quantize(64).save(TARGET / name, optimize=True)
            print(f"{TARGET.relative_to(ROOT) / name}: {(TARGET / name).stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main()
