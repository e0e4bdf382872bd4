"""Draw the picture of the landing page and README from the stored figures of the Shop's study."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dqnrec_lite import studies
from dqnrec_lite.evaluation import confidence_interval
from dqnrec_lite.plotting import COLORS, use_house_style

ROOT = Path(__file__).resolve().parent.parent
NAMES = {
    "popular": "best-seller, always",
    "random": "random",
    "myopic DQN": "myopic DQN",
    "LinUCB": "LinUCB",
    "best fixed rule": "best of 768 fixed rules",
    "tabular": "Q-learning in a table",
    "item-to-item": "item-to-item",
    "attentive rule": "attentive rule",
    "DQN": "DQN",
    "oracle": "mind-reading oracle",
}


def main() -> None:
    returns: dict[str, list[float]] = {}
    for row in studies.rows("shop"):
        returns.setdefault(row["method"], []).append(row["figures"]["return"])
    methods = [method for method in NAMES if method in returns]
    use_house_style()
    figure, axes = plt.subplots(figsize=(6.8, 0.49 * len(methods)))
    for row, method in enumerate(methods):
        values = np.array(returns[method])
        mean, (low, high) = values.mean(), confidence_interval(values)
        color = {"DQN": COLORS["blue"], "oracle": "#d1d5db"}.get(method, "#9aa5b1")
        axes.barh(row, mean, color=color, height=0.68)
        axes.plot([low, high], [row, row], color=COLORS["black"], linewidth=1.5)
        weight = "bold" if method == "DQN" else "normal"
        axes.text(-0.2, row, NAMES[method], ha="right", va="center", fontweight=weight, fontsize=13)
        label = f"{mean:.1f}"
        axes.text(high + 0.15, row, label, va="center", fontweight=weight, fontsize=13)
    axes.invert_yaxis()
    axes.set_yticks([])
    axes.set_xlim(0, 17.5)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("euro per customer session")
    figure.savefig(ROOT / "book/_static/hero.png", dpi=160)


if __name__ == "__main__":
    main()
