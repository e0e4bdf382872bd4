"""Four schedules of exploration in the Shop, a quarter of the long training each."""

from __future__ import annotations

from typing import Any

from dqnrec_lite.studies.shop import ShopDQN, ShopStudy

EPSILON_STEPS = 500_000
# Changes of `shop_config`: the period is halved, for 40 copies into the target network.
SCHEDULES: dict[str, dict[str, Any]] = {
    name: {**schedule, "target_sync_every": 250}
    for name, schedule in {
        "constant 0.05": {"epsilon_start": 0.05, "epsilon_end": 0.05},
        "constant 0.3": {"epsilon_start": 0.3, "epsilon_end": 0.3},
        "linear over 10 %": {"epsilon_fraction": 0.1},
        "linear over 50 %": {"epsilon_fraction": 0.5},
    }.items()
}
STUDY = ShopStudy(
    name="epsilon",
    methods={name: ShopDQN(changes, EPSILON_STEPS) for name, changes in SCHEDULES.items()},
)
