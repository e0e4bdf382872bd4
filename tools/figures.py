"""Show every figure of the book as other eyes see it: `python tools/figures.py`, some: with names.

For each figure one picture in `_build/figures`: as it is, in grey, to eyes that lack one kind of
cone (Machado, Oliveira & Fernandes 2009, doi:10.1109/TVCG.2009.113), and as small as on a phone,
on a dark page.
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "book" / "_static"
TARGET = ROOT / "_build" / "figures"
PHONE = 350  # what book.css leaves for a figure on a screen of 360 pixels
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB (IEC 61966-2-1)
# On linear sRGB. The three deficiencies at full severity, from the table of the cited paper.
VISIONS = {
    "grey": np.tile(LUMINANCE, (3, 1)),
    "no red cones": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "no green cones": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "no blue cones": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], LUMINANCE, [0.0193, 0.1192, 0.9505]])


def to_linear(rgb: np.ndarray) -> np.ndarray:
    """Light from sRGB values, both in [0, 1], of any shape."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def seen(rgb: np.ndarray, vision: str) -> np.ndarray:
    """The sRGB colours (..., 3), in [0, 1], that look to all as these do to that vision."""
    light = np.clip(to_linear(rgb) @ VISIONS[vision].T, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """How far apart two sRGB colours (3,) look: the distance in CIELAB (1976), white being 100."""

    def lab(rgb: np.ndarray) -> np.ndarray:
        share = XYZ @ to_linear(rgb) / XYZ.sum(axis=1)
        x, y, z = np.where(share > (6 / 29) ** 3, np.cbrt(share), share * 841 / 108 + 4 / 29)
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    return float(np.linalg.norm(lab(first) - lab(second)))


def stored_figures() -> dict[str, Image.Image]:
    """Cell id or file name -> picture, in reading order."""
    figures = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    content = base64.b64decode(output.data["image/png"])
                    assert cell.id not in figures, f"{cell.id} shows two pictures"
                    figures[cell.id] = Image.open(io.BytesIO(content))
    return figures | {path.name: Image.open(path) for path in sorted(STATIC.glob("*.png"))}


def sheet(figure: Image.Image, name: str) -> Image.Image:
    """One picture of six: all the visions, and a phone's dark page."""
    ground = Image.new("RGB", figure.size, "white")
    ground.paste(figure, mask=figure.convert("RGBA").getchannel("A"))
    rgb = np.asarray(ground) / 255
    views = {name: ground} | {
        vision: Image.fromarray((seen(rgb, vision) * 255).round().astype("uint8"))
        for vision in VISIONS
    }
    width, height = 500, round(500 * figure.height / figure.width)
    views = {title: view.resize((width, height)) for title, view in views.items()}
    views["phone, dark page"] = Image.new("RGB", (width, height), "#121212")
    small = ground.resize((PHONE, round(PHONE * figure.height / figure.width)))
    views["phone, dark page"].paste(small, ((width - PHONE) // 2, 10))
    page = Image.new("RGB", (3 * width + 20, 2 * height + 50), "#445")
    for place, (title, view) in enumerate(views.items()):
        x, y = place % 3 * (width + 10), place // 3 * (height + 25)
        ImageDraw.Draw(page).text((x + 5, y + 5), title, fill="white")
        page.paste(view, (x, y + 22))
    return page


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    figures = stored_figures()
    for name in sys.argv[1:] or figures:
        sheet(figures[name], name).save(TARGET / f"{Path(name).stem}.png")
        print(TARGET.relative_to(ROOT) / f"{Path(name).stem}.png", flush=True)
    print("Look whether things that differ can be told apart in each of the six.")


if __name__ == "__main__":
    main()
