"""Draw the picture of the landing page and README from the figures that `make verify` stored."""

import json
from pathlib import Path

import matplotlib.pyplot as plt

from dqnrec_lite.plotting import COLORS, use_house_style

ROOT = Path(__file__).resolve().parent.parent
ROWS = {
    "popular": "best-seller, always",
    "random": "random",
    "myopic DQN": "short-sighted DQN",
    "LinUCB": "LinUCB",
    "best fixed rule": "best of 768 fixed rules",
    "attentive rule": "thoughtful rule",
    "DQN": "DQN",
    "oracle": "mind-reading oracle",
}


def main() -> None:
    policies = json.loads((ROOT / "tests/verify/results.json").read_text())["policies"]
    use_house_style()
    figure, axes = plt.subplots(figsize=(7, 3.9))
    for row, (key, name) in enumerate(ROWS.items()):
        mean, (low, high) = policies[key]["mean"], policies[key]["ci"]
        color = {"DQN": COLORS["blue"], "oracle": "#d1d5db"}.get(key, "#9aa5b1")
        axes.barh(row, mean, color=color, height=0.68)
        axes.plot([low, high], [row, row], color=COLORS["black"], linewidth=1.5)
        weight = "bold" if key == "DQN" else "normal"
        axes.text(-0.2, row, name, ha="right", va="center", fontweight=weight, fontsize=13)
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
