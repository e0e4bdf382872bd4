"""Double DQN, dueling, n-step returns and prioritised replay in all 16 combinations.

A factorial: each seed of each cell counts for every main effect, so that an effect's interval is
that of all runs, and interactions come free. Equal transitions in every cell; the seconds stand
beside the scores. The settings are the defaults, but for the updates on PocketShop.

The cell that is best on the tuning seeds is the one against which other settings are then tried;
what is said of effects comes from the fresh seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from dqnrec_lite.evaluation import confidence_interval
from dqnrec_lite.studies.worlds import FRESH, WorldStudy, gru_network

SWITCHES: dict[str, dict[str, Any]] = {  # each off (the first) or on (the second)
    "double": {"double": (False, True)},
    "dueling": {"dueling": (False, True)},
    "3 steps": {"n_step": (1, 3)},
    "prioritised": {"prioritised": (None, 0.6)},
}
CELLS = {
    ", ".join(name for name, on in zip(SWITCHES, chosen, strict=True) if on) or "none": {
        field: values[on]
        for switch, on in zip(SWITCHES.values(), chosen, strict=True)
        for field, values in switch.items()
    }
    for chosen in product((0, 1), repeat=len(SWITCHES))
}
STUDIES = [
    WorldStudy(  # half of the quickstart's call, and as many copies
        name="improvements_shop", world="shop", methods=CELLS, total_steps=500_000,
        base={"target_sync_every": 250},
    ),
    WorldStudy(
        name="improvements_pocket", world="pocket", methods=CELLS, total_steps=200_000,
        base={"updates_per_transition": 0.1},
    ),
    WorldStudy(name="improvements_cartpole", world="cartpole", methods=CELLS),
    WorldStudy(  # beside the cell "none" of the Shop: other eyes, same customers and budget
        name="improvements_gru", world="shop of events", methods={"GRU": {}}, total_steps=500_000,
        base={"target_sync_every": 250}, networks={"GRU": gru_network}, seeds=FRESH,
    ),
]  # fmt: skip


# The cell that was best on the tuning seeds (`best_cell`); other settings are tried against it.
CHOSEN = {"shop": "double", "pocket": "dueling, prioritised", "cartpole": "none"}
FAMILIES: dict[str, dict[str, dict[str, Any]]] = {  # Holm's correction is over each
    "exploration": {
        "over half of the call": {"epsilon_fraction": 0.5},
        "ending at 0.1": {"epsilon_end": 0.1},
        "0.05 throughout": {"epsilon_start": 0.05},
    },
    "loss": {"Huber": {"loss": "huber"}},
    "copies": {"half as many": {"copies": 0.5}, "twice as many": {"copies": 2.0}},
    "hidden sizes": {
        "64": {"hidden_sizes": (64, 64)},
        "256": {"hidden_sizes": (256, 256)},
    },
}


def settings_study(factorial: WorldStudy, cell: str) -> WorldStudy:
    """All settings of `FAMILIES` in the cell, fresh seeds; the cell itself has its rows already."""
    config = factorial.config(cell, 0)
    every = config.sync_every(config.updates_per_transition * factorial.steps)
    methods = {}
    for family in FAMILIES.values():
        for name, change in family.items():
            copies = change.get("copies")
            made = {"target_sync_every": round(every / copies)} if copies else change
            methods[name] = {**CELLS[cell], **made}
    return replace(
        factorial, name=factorial.name.replace("improvements", "settings"), methods=methods,
        seeds=FRESH,
    )  # fmt: skip


SETTINGS = [settings_study(each, CHOSEN[each.world]) for each in STUDIES if each.world in CHOSEN]
STUDIES += SETTINGS


class Effect(NamedTuple):
    """What a switch, or several together, does to the score; its unit."""

    mean: float
    interval: tuple[float, float]  # 95 %, by Student's t over seeds, not corrected
    p: float  # after Holm, over the family
    verdict: str


def effects(scores: np.ndarray, matters: float) -> dict[str, Effect]:
    """Main effects and interactions of a factorial, each of all its runs.

    A main effect is the mean score of the half of the cells that has the switch on, less that of
    the other half. An interaction of two is half of how much more the one does where the other is
    on than where it is off; and so on. Each seed gives one number for each effect, and an interval
    is over the seeds. (Box, Hunter & Hunter, Statistics for Experimenters, 2nd ed., chapter 5.)

    Args:
        scores: (seeds, 16), cells in the order of `CELLS`.
        matters: the difference that would matter, named before.

    Returns:
        15 effects by name. The verdict is "helps" or "hurts" where Holm's corrected p over the 15
        is below 0.05; else "small" where the interval lies within what matters; else "undecided".
    """
    cells = scores.reshape(-1, *[2] * len(SWITCHES))
    found: dict[str, np.ndarray] = {}
    for chosen in sorted(product((1, 0), repeat=len(SWITCHES)), key=sum):
        if not any(chosen):
            continue
        signed = cells
        for axis, on in enumerate(chosen, start=1):
            weights = np.array([-1.0, 1.0] if on else [1.0, 1.0])
            signed = signed * weights.reshape([-1 if a == axis else 1 for a in range(cells.ndim)])
        name = " x ".join(n for n, on in zip(SWITCHES, chosen, strict=True) if on)
        found[name] = signed.reshape(len(scores), -1).sum(axis=1) / (scores.shape[1] / 2)
    return _verdicts(found, matters)


def gains(base: np.ndarray, tried: Mapping[str, np.ndarray], matters: float) -> dict[str, Effect]:
    """What each setting of a family does against the cell's own, paired over seeds.

    Args:
        base: (seeds,) scores of the cell as it is.
        tried: (seeds,) scores of each setting of one family, same seeds.
        matters: the difference that would matter, named before.

    Returns:
        Effects by name, as of `effects`; Holm's correction is over the family.
    """
    return _verdicts({name: scores - base for name, scores in tried.items()}, matters)


def _verdicts(found: Mapping[str, np.ndarray], matters: float) -> dict[str, Effect]:
    """Of one number a seed for each effect of a family."""
    alone = [stats.ttest_1samp(each, 0.0).pvalue if each.any() else 1.0 for each in found.values()]
    corrected = holm([float(p) for p in alone])
    return {
        name: _effect(each, p, matters)
        for (name, each), p in zip(found.items(), corrected, strict=True)
    }


def _effect(each: np.ndarray, p: float, matters: float) -> Effect:
    low, high = confidence_interval(each)
    if p < 0.05:
        verdict = "helps" if each.mean() > 0 else "hurts"
    else:
        verdict = "small" if -matters < low and high < matters else "undecided"
    return Effect(float(each.mean()), (low, high), p, verdict)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's corrected p-values (Scandinavian Journal of Statistics 6, 1979), in their order."""
    order, corrected, most = np.argsort(p), np.zeros(len(p)), 0.0
    for rank, index in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = most
    return corrected.tolist()
