"""Which defaults serve those who set nothing but the discount?

The rule, written before anything was run. In a world a candidate's regret is what its mean score
over the tuning seeds lacks of the best candidate's, counted in the difference that matters there
(`World.matters`). Chosen is the candidate whose worst regret over the worlds is smallest. Whoever
comes within half a difference of that counts as equal, and among equals the plainest is taken:
without Double DQN before with it, then fewer updates, then the longer period of the target network.

It must then hold on fresh seeds: at least 99 % of the optimum on average, and 95 % at worst, on
random problems; CartPole 475 in 9 of 10; the Shop not worse than before, with the lower end of the
paired interval above -0.15 euro.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from dqnrec_lite.config import DQNConfig
from dqnrec_lite.studies.worlds import WORLDS, WorldStudy

SEEDS = range(5)


def candidates(world: str) -> dict[str, dict[str, Any]]:
    """Changes of the defaults. Where the world's own settings fix the updates, that stays."""
    own = WORLDS[world].settings
    shares = {"own": own["updates_per_transition"]} if "updates_per_transition" in own else {}
    found = {}
    for (name, share), double in product(
        (shares or {"0.05": 0.05, "0.25": 0.25}).items(), (False, True)
    ):
        updates = share * WORLDS[world].total_steps
        horizons = updates * (1 - own.get("discount", DQNConfig().discount))
        periods = {
            "every 500": 500, "every 150": 150, "every 50": 50,
            "40 a call": updates / 40, "4 a horizon": horizons / 4,
        }  # fmt: skip
        for told, every in periods.items():
            label = f"{name} updates, target {told}{', double' if double else ''}"
            found[label] = {
                "updates_per_transition": share,
                "target_sync_every": max(1, round(every)),
                "double": double,
            }
    return found


STUDIES = [
    WorldStudy(name=f"defaults_{world}", world=world, methods=candidates(world), seeds=SEEDS)
    for world in ("shop", "pocket", "random", "cartpole", "acrobot")
]
