"""Double DQN, dueling, n-step returns and prioritised replay in all 16 combinations (chapter 12).

A factorial: each seed of each cell counts for every main effect, so that an effect's interval is
that of all runs, and interactions come free. Equal transitions in every cell; the seconds stand
beside the scores.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from dqnrec_lite.studies.worlds import WorldStudy, gru_network

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
    WorldStudy(
        name="improvements_shop", world="shop", methods=CELLS, total_steps=500_000,
        base={"target_sync_every": 150},
    ),
    WorldStudy(
        name="improvements_pocket", world="pocket", methods=CELLS,
        base={"target_sync_every": 125},
    ),
    WorldStudy(
        name="improvements_cartpole", world="cartpole", methods=CELLS,
        base={"updates_per_transition": 0.25, "target_sync_every": 64},
    ),
    WorldStudy(  # beside the cell "none" of the Shop: other eyes, same customers and budget
        name="improvements_gru", world="shop of events", methods={"GRU": {}}, total_steps=500_000,
        base={"target_sync_every": 150}, networks={"GRU": gru_network},
    ),
]  # fmt: skip
