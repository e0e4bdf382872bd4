"""Which defaults serve those who set nothing but the discount?

The rule, written before any row was made (but after a look at four random problems and two seeds
of PocketShop, with today's defaults and with a copy every 50 updates). In a world a candidate's
regret is what its mean score over the tuning seeds lacks of the best candidate's, counted in the
difference that matters there (`World.matters`). Chosen is the candidate whose worst regret over
the worlds is smallest. Whoever comes within half a difference of that counts as equal, and among
equals the plainest is taken: without Double DQN before with it, then fewer updates, then fewer
copies.

It must then hold on fresh seeds: at least 99 % of the optimum on average, and 95 % at worst, on
random problems; CartPole 475 in 9 of 10; the Shop not worse than before, with the lower end of the
paired interval above -0.15 euro.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from dqnrec_lite.config import DQNConfig
from dqnrec_lite.studies.study import rows
from dqnrec_lite.studies.worlds import WORLDS, WorldStudy

SEEDS = range(5)
JUDGES = ("shop", "pocket", "random", "cartpole", "acrobot")
SHARES = (0.05, 0.25)  # updates per transition
# Updates between two copies, in a call of so many updates and for a horizon of so many steps.
PERIODS: dict[str, Callable[[float, float], float]] = {
    "every 500": lambda updates, horizon: 500,
    "every 150": lambda updates, horizon: 150,
    "every 50": lambda updates, horizon: 50,
    "40 a call": lambda updates, horizon: updates / 40,
    "a horizon, 40 at least": lambda updates, horizon: updates / max(40, horizon),
    "4 horizons": lambda updates, horizon: updates / (4 * horizon),
}


class Candidate(NamedTuple):
    """Three defaults."""

    double: bool
    updates_per_transition: float
    period: str

    def changes(self, world: str) -> dict[str, Any]:
        """What it means in a world, whose own settings come first."""
        own = WORLDS[world].settings
        share = own.get("updates_per_transition", self.updates_per_transition)
        horizon = 1 / (1 - own.get("discount", DQNConfig().discount))
        every = PERIODS[self.period](share * WORLDS[world].total_steps, horizon)
        return {
            "double": self.double,
            "updates_per_transition": share,
            "target_sync_every": max(1, round(every)),
        }

    def method(self, world: str) -> str:
        """The method of the world's study; candidates that mean the same there share one."""
        double, share, every = self.changes(world).values()
        return f"{share} updates, every {every}{', double' if double else ''}"


CANDIDATES = [Candidate(*made) for made in product((False, True), SHARES, PERIODS)]
STUDIES = [
    WorldStudy(
        name=f"defaults_{world}",
        world=world,
        methods={one.method(world): one.changes(world) for one in CANDIDATES},
        seeds=SEEDS,
    )
    for world in JUDGES
]


def regrets(scores: Mapping[str, Mapping[str, float]]) -> dict[Candidate, dict[str, float]]:
    """What each candidate lacks of the best in each world, in differences that matter there.

    Args:
        scores: world -> method -> mean score over the tuning seeds.
    """
    return {
        one: {
            world: (max(means.values()) - means[one.method(world)]) / WORLDS[world].matters
            for world, means in scores.items()
        }
        for one in CANDIDATES
    }


def choose(regret: Mapping[Candidate, Mapping[str, float]]) -> Candidate:
    """The rule at the head of this file."""
    worst = {one: max(found.values()) for one, found in regret.items()}
    equal = [one for one in CANDIDATES if worst[one] <= min(worst.values()) + 0.5]

    def plainness(one: Candidate) -> tuple[bool, float, int]:
        every = min(one.changes(world)["target_sync_every"] for world in JUDGES)
        return one.double, one.updates_per_transition, -every

    return min(equal, key=plainness)


def mean_scores() -> dict[str, dict[str, float]]:
    """World -> method -> mean score over the tuning seeds, from the stored rows."""
    scores = {}
    for study in STUDIES:
        found = rows(study.name)
        scores[study.world] = {
            method: float(np.mean([r["figures"]["score"] for r in found if r["method"] == method]))
            for method in study.methods
        }
    return scores
