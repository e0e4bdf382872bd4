"""The figures: read by weak and colour-blind eyes, in grey, on dark pages and on a phone.

A figure's colours are read from its pixels. Two that some eyes cannot tell apart need a second
cue, which `CUES` names; `make figures` shows what such eyes see.
"""

import itertools
import re
from collections.abc import Callable
from functools import cache

import matplotlib.pyplot as plt
import nbformat
import numpy as np
from figures import LUMINANCE, PHONE, ROOT, VISIONS, difference, seen, stored_figures, to_linear
from matplotlib.colors import rgb_to_hsv, to_rgb
from PIL import Image
from screenshots import PICTURES

from dqnrec_lite.plotting import COLORS, PAPER, use_house_style

FIGURES = stored_figures()
SOURCES = {
    cell.id: cell.source
    for path in (ROOT / "notebooks").glob("*.ipynb")
    for cell in nbformat.read(path, as_version=4).cells
}
SOURCES["hero.png"] = (ROOT / "tools" / "hero.py").read_text(encoding="utf-8")
SOURCES["peers.png"] = (ROOT / "benchmarks" / "peers_speed.py").read_text("utf-8")
# Grey and black are for words and for what is compared with: labelled, never told by colour.
HUES = {name: np.array(to_rgb(color)) for name, color in COLORS.items()}
del HUES["grey"], HUES["black"]
# In CIELAB. Thin lines nearer than this look alike; greys have lightness only, and lie closer.
APART = {vision: 15.0 if vision == "grey" else 20.0 for vision in VISIONS}
# Figures with colours that some eyes take for each other: what tells them apart there. Looked at.
CUES = {
    "ch01-c-drawing": "labels",
    "ch05-07-contraction-figure": "labels",
    "ch05-20-run-figure": "labels",
    "ch06-19-heads-figure": "markers",
    "ch06-34-fqi-figure": "line styles",
    "ch14-33-curves-figure": "line styles",
    "ch07-37-sizes-figure": "line styles",
    "ch08-11-freeze-figure": "labels",
    "ch08-36-curves": "line styles",
    "ch09-19-figure": "panels",
    "ch11-26-enough-figure": "labels",
    "ch11-49-peeking-figure": "line styles",
}
# What the code of a figure with that cue must hold.
SIGNS = {
    "labels": r"\.text\(",
    "line styles": r'"(--|-\.|:)"',
    "markers": r'"[o^sDx]"(?s:.*)legend\(',
    "panels": r"plot_training\(|subplots\(",
}
HOUSE_SIZES = {
    "font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize",
    "legend.fontsize",
}  # fmt: skip


@cache
def pixels(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The coloured pixels (n, 3) of a figure and their hues (n,), both in [0, 1]."""
    rgb = np.asarray(FIGURES[name].convert("RGB")).reshape(-1, 3) / 255
    rgb = rgb[np.ptp(rgb, axis=1) > 0.15]
    return rgb, rgb_to_hsv(rgb)[:, 0]


def of_hue(hues: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Which hues (n,) are those of a colour (3,), mixed with white, grey or black or not."""
    return np.abs((hues - rgb_to_hsv(color)[0] + 0.5) % 1 - 0.5) < 0.02


def colours_in(name: str) -> list[str]:
    _, hues = pixels(name)
    return [hue for hue, color in HUES.items() if of_hue(hues, color).sum() > 100]


def look_alike(names: list[str]) -> list[tuple[str, str, str]]:
    """The pairs of colours, each with a vision, that are nearer than they may be."""
    return [
        (first, second, vision)
        for first, second in itertools.combinations(names, 2)
        for vision in VISIONS
        if difference(*(seen(HUES[name], vision) for name in (first, second))) < APART[vision]
    ]


def faults(what_is_wrong: Callable[[str], str | None]) -> dict[str, str]:
    """Figure -> what is wrong with it, for those where something is."""
    return {name: fault for name in FIGURES if (fault := what_is_wrong(name))}


def foreign_colours(name: str) -> str | None:
    rgb, hues = pixels(name)
    share = np.mean([of_hue(hues, color) for color in HUES.values()], axis=1).sum()
    if share <= 0.9:
        return f"{1 - share:.0%} of the coloured pixels have another hue"
    for hue in colours_in(name):
        # Tints lie between white and the colour. Another shade of the hue: an old picture.
        light = 1 - rgb[of_hue(hues, HUES[hue])]
        aim = 1 - HUES[hue]
        cosine = light @ aim / np.linalg.norm(light, axis=1) / np.linalg.norm(aim)
        if np.median(cosine) <= 0.995:
            return f"another {hue} than the house's: store the figure again"
    return None


def test_figures_have_no_colours_but_those_of_the_house():
    assert len(FIGURES) > 40
    assert faults(foreign_colours) == {}


def told_by_colour_alone(name: str) -> str | None:
    alike = look_alike(colours_in(name))
    if bool(alike) != (name in CUES):
        return f"look alike: {alike}; listed in CUES: {name in CUES}"
    if alike and not re.search(SIGNS[CUES[name]], SOURCES[name]):
        return f"no {CUES[name]} in the code"
    return None


def test_colours_that_some_eyes_take_for_each_other_have_another_cue():
    assert faults(told_by_colour_alone) == {}


def test_every_listed_cue_belongs_to_a_figure():
    assert set(CUES) <= set(FIGURES)


def test_blue_and_orange_can_be_told_apart_by_all_eyes_and_not_every_pair_can():
    assert look_alike(["blue", "orange"]) == []
    assert ("blue", "green", "no blue cones") in look_alike(list(HUES))
    assert ("green", "pink", "no green cones") in look_alike(list(HUES))


def test_the_simulated_eyes_see_white_black_and_what_is_known_of_others():
    for vision in VISIONS:
        np.testing.assert_allclose(seen(np.ones(3), vision), 1, atol=2e-3)
        np.testing.assert_allclose(seen(np.zeros(3), vision), 0, atol=1e-12)
    red, green = np.array([0.8, 0.2, 0.0]), np.array([0.35, 0.45, 0.0])
    for vision in ("no red cones", "no green cones"):
        assert difference(seen(red, vision), seen(green, vision)) < 0.5 * difference(red, green)
    assert np.ptp(seen(red, "grey")) < 1e-12
    # White to black is 100; the lightness of middle grey is known.
    assert abs(difference(np.ones(3), np.zeros(3)) - 100) < 0.05
    assert abs(difference(np.full(3, 119 / 255), np.zeros(3)) - 50) < 0.2


def test_words_in_every_colour_are_strong_enough_on_the_paper():
    # WCAG 2, level AA, text of usual size.
    light = {name: to_linear(np.array(to_rgb(c))) @ LUMINANCE for name, c in COLORS.items()}
    paper = to_linear(np.array(to_rgb(PAPER))) @ LUMINANCE
    ratios = {name: (paper + 0.05) / (dark + 0.05) for name, dark in light.items()}
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def seen_through(name: str) -> str | None:
    rgba = np.asarray(FIGURES[name].convert("RGBA"))
    if rgba[..., 3].min() < 255:
        return "transparent"
    edges = np.concatenate([rgba[0], rgba[-1], rgba[:, 0], rgba[:, -1]])[:, :3] / 255
    return None if np.array_equal(edges, np.broadcast_to(to_rgb(PAPER), edges.shape)) else "edges"


def test_figures_bring_their_own_paper_and_so_read_on_dark_pages():
    assert faults(seen_through) == {}


def too_small_to_read(name: str) -> str | None:
    sizes = [size for key, size in plt.rcParams.items() if key in HOUSE_SIZES]
    sizes += [float(size) for size in re.findall(r"fontsize=([\d.]+)", SOURCES[name])]
    figure = FIGURES[name]
    pixels_high = min(sizes) / 72 * figure.info["dpi"][0] * PHONE / figure.width
    return None if pixels_high >= 7.0 else f"the smallest words are {pixels_high:.1f} pixels high"


def test_words_can_be_read_on_a_phone():
    use_house_style()
    assert faults(too_small_to_read) == {}


def drawn(color: str, ground: str, size: int) -> Image.Image:
    """A square of one colour on a ground, this many pixels wide, as a figure of 150 dpi."""
    picture = Image.new("RGBA", (size, size), ground)
    picture.paste(color, (10, 10, 60, 60))
    picture.info["dpi"] = (150, 150)
    return picture


def test_the_checks_of_a_figure_see_what_is_wrong(monkeypatch):
    monkeypatch.setitem(FIGURES, "yellow", drawn("#ffff00", "#00000000", 3000))
    monkeypatch.setitem(FIGURES, "grey paper", drawn(COLORS["blue"], "#eeeeee", 500))
    monkeypatch.setitem(FIGURES, "alike", drawn(COLORS["green"], PAPER, 500))
    FIGURES["alike"].paste(COLORS["blue"], (80, 80, 130, 130))
    for name in ("yellow", "grey paper", "alike"):
        monkeypatch.setitem(SOURCES, name, "")
    assert set(faults(foreign_colours)) == {"yellow"}
    assert set(faults(told_by_colour_alone)) == {"alike"}
    monkeypatch.setitem(CUES, "alike", "labels")
    assert faults(told_by_colour_alone) == {"alike": "no labels in the code"}
    assert faults(seen_through) == {"yellow": "transparent", "grey paper": "edges"}
    assert set(faults(too_small_to_read)) == {"yellow"}


def test_the_pictures_of_the_readme_are_there_light_and_described():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    images = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
    images += [
        (words, path) for path, words in re.findall(r'<img src="([^"]+)" alt="([^"]+)"', text)
    ]
    assert len(images) == text.count("![") + text.count("<img") >= 4
    assert len({words for words, _ in images}) == len(images)
    for words, path in images:
        assert len(words.split()) >= 12, path
        assert 5_000 < (ROOT / path).stat().st_size < 150_000, path
        with Image.open(ROOT / path) as image:
            assert image.width >= 700
    shots = {f"book/screenshots/{name}" for name in PICTURES}
    assert shots <= {path for _, path in images}
