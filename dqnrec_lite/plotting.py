"""One house style, and the figures that recur."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dqnrec_lite._checks import check_array, check_kind, check_number
from dqnrec_lite.curve import LearningCurve

# Okabe & Ito's palette (2008), darkened so that words in it can be read on white paper. Blue and
# orange, the pair used most, differ in grey and to the colour-blind too; the rest need another cue.
COLORS = {
    "blue": "#005280",
    "orange": "#c15500",
    "green": "#00795a",
    "pink": "#b0578d",
    "grey": "#6b7280",
    "black": "#1f2933",
}
PAPER = "#ffffff"  # opaque, so that figures read on dark pages too
WIDTH, HEIGHT = 7.0, 3.8  # inches


def use_house_style() -> None:
    """Set Matplotlib's defaults for the notebook that calls it."""
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, HEIGHT),
            "figure.dpi": 110,
            "figure.facecolor": PAPER,
            "savefig.facecolor": PAPER,
            "savefig.bbox": "tight",
            "axes.facecolor": PAPER,
            "axes.edgecolor": COLORS["grey"],
            "axes.labelcolor": COLORS["black"],
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.titlesize": 13,
            "axes.labelsize": 12,
            "axes.prop_cycle": cycler(color=list(COLORS.values())),
            "xtick.labelsize": 11,
            "ytick.labelsize": 11,
            "legend.frameon": False,
            "legend.fontsize": 11,
            "font.size": 12,
            "lines.linewidth": 2.0,
        }
    )


def plot_learning_curve(
    curve: LearningCurve, levels: Mapping[str, float], ylabel: str = "return per session (euro)"
) -> tuple[Figure, Axes]:
    """Mean return of the sessions that ended along training, with horizontal lines to compare.

    Args:
        curve: what `DQN.learn` returned.
        levels: name -> return, drawn as dashed lines with the name beside them.
        ylabel: label and unit of the vertical axis.

    Raises:
        TypeError: curve is no `LearningCurve`, or levels no mapping.
        ValueError: no session ended in training, or a level is no finite number.
    """
    _check_curve(curve)
    check_kind("levels", levels, Mapping)
    for name, level in levels.items():
        check_number(f"levels[{name!r}]", level)
    if not np.isfinite(curve.mean_return).any():
        raise ValueError("curve.mean_return: a finite number expected, no session ended")
    figure, axes = plt.subplots(figsize=(0.88 * WIDTH, HEIGHT))  # the names need room beside it
    thousands = curve.transitions / 1000
    axes.plot(thousands, curve.mean_return, color=COLORS["blue"])
    last = curve.mean_return[np.isfinite(curve.mean_return)][-1]
    end = thousands[-1] * 1.02
    axes.text(end, last, "DQN, training", color=COLORS["blue"], va="center")
    for name, level in levels.items():
        axes.axhline(level, color=COLORS["grey"], linestyle="--", linewidth=1.2)
        axes.text(end, level, name, color=COLORS["black"], va="center")
    axes.set_xlim(0, thousands[-1])
    axes.set_ylim(bottom=min([0.0, np.nanmin(curve.mean_return), *levels.values()]))
    axes.set_xlabel("transitions (thousands)")
    axes.set_ylabel(ylabel)
    return figure, axes


def plot_intervals(
    intervals: Mapping[str, tuple[float, float, float]],
    xlabel: str = "return per session (euro)",
    highlight: str | None = None,
) -> tuple[Figure, Axes]:
    """One row a name: a dot at the mean and a bar over its interval.

    The axis begins at 0 unless a number lies below it.

    Args:
        intervals: name -> (mean, low, high), drawn from top to bottom.
        xlabel: label and unit of the horizontal axis.
        highlight: the row that the figure is about, in blue and bold.

    Raises:
        TypeError: intervals is no mapping.
        ValueError: there is no interval, or one is something else than three finite numbers.
    """
    check_kind("intervals", intervals, Mapping)
    if not intervals:
        raise ValueError("intervals: at least one expected, got none")
    for name, interval in intervals.items():
        check_array(f"intervals[{name!r}]", interval, (3,))
    figure, axes = plt.subplots(figsize=(WIDTH, 0.5 * len(intervals) + 1.0))
    axes.set_yticks(range(len(intervals)), list(intervals))
    for row, (name, (mean, low, high)) in enumerate(intervals.items()):
        color, weight = (
            (COLORS["blue"], "bold") if name == highlight else (COLORS["grey"], "normal")
        )
        axes.plot([low, high], [row, row], color=color, linewidth=3, solid_capstyle="butt")
        axes.plot(mean, row, "o", color=color, markersize=8)
        axes.annotate(
            f"{mean:.1f}", (mean, row), (0, 8), textcoords="offset points", ha="center",
            color=color, fontweight=weight,
        )  # fmt: skip
        axes.get_yticklabels()[row].set_fontweight(weight)
    axes.set_ylim(len(intervals) - 0.5, -0.7)
    if min(map(min, intervals.values())) >= 0:
        axes.set_xlim(
            left=0
        )  # lengths from the axis can be compared; below 0 there is no such edge
    axes.set_xlabel(xlabel)
    return figure, axes


def plot_training(curve: LearningCurve, unit: str = "euro") -> tuple[Figure, np.ndarray]:
    """What to look at while an agent learns, and first when it does not: six panels.

    The dotted line of the second panel is what the agent promised at the sessions' first
    observations, the full line what it then earned, exploring. A promise far above is
    over-estimation.

    Args:
        curve: what `DQN.learn` returned.
        unit: of the reward.

    Returns:
        The figure and its axes, (3, 2).

    Raises:
        TypeError, ValueError: curve is no `LearningCurve`, or has no rows.
    """
    _check_curve(curve)
    figure, axes = plt.subplots(3, 2, figsize=(WIDTH, 8.4), sharex=True, layout="constrained")
    thousands = curve.transitions / 1000
    panels = [
        (f"return ({unit})", curve.mean_return, "blue"),
        (f"discounted ({unit})", curve.discounted_return, "blue"),
        (f"TD error ({unit})", curve.td_error, "orange"),
        ("epsilon", curve.epsilon, "green"),
        ("buffer (thousands)", curve.buffer_size / 1000, "pink"),
        ("session length (steps)", curve.mean_length, "grey"),
    ]
    for panel, (label, values, color) in zip(axes.flat, panels, strict=True):
        panel.plot(thousands, values, color=COLORS[color])
        panel.set_title(label, fontweight="normal")
    both = axes[0, 1]
    both.plot(thousands, curve.start_value, color=COLORS["orange"], linestyle=":")
    middle = slice(len(thousands) // 4, 3 * len(thousands) // 4)
    gap = (curve.start_value - curve.discounted_return)[middle]
    if np.isfinite(gap).any():  # both lines get their names where they are furthest apart
        at = middle.start + int(np.nanargmax(np.abs(gap)))
        promised, earned = ("promised", curve.start_value), ("earned", curve.discounted_return)
        pair = [(promised, COLORS["orange"]), (earned, COLORS["blue"])]
        pair.sort(key=lambda line: -line[0][1][at])
        for ((name, values), color), (ha, va, shift) in zip(
            pair, [("right", "bottom", 6), ("left", "top", -6)], strict=True
        ):
            both.annotate(
                name, (thousands[at], values[at]), (0, shift), textcoords="offset points",
                ha=ha, va=va, color=color,
            )  # fmt: skip
    for panel in axes.flat:
        panel.set_xlim(0, thousands[-1])
        panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]))
    for panel in axes[-1]:
        panel.set_xlabel("transitions (thousands)")
    return figure, axes


def _check_curve(curve: LearningCurve) -> None:
    check_kind("curve", curve, LearningCurve)
    rows = check_array("curve.transitions", curve.transitions, ("rows",)).shape
    if rows == (0,):
        raise ValueError("curve: at least one row expected, got none")
    for name, column in curve._asdict().items():  # NaN stands where nothing was measured
        came = f"{column.dtype} of shape {column.shape}" if isinstance(column, np.ndarray) else None
        if came is None or column.shape != rows or column.dtype.kind not in "fiu":
            raise ValueError(
                f"curve.{name}: {rows} numbers expected, got {came or type(column).__name__}"
            )
