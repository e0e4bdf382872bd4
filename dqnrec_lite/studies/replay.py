"""Replay ratios in the Shop: the same transitions, ever more updates, the same number of syncs."""

from __future__ import annotations

from dqnrec_lite.studies.study import SEEDS
from dqnrec_lite.studies.worlds import WorldStudy

STEPS = 200_000
# Plain DQN with a step size that stays, as chapter 7 has it in PocketShop. The target network is
# copied at a share of the call (`DQNConfig.sync_every`): no ratio gets more copies than another.
STUDY = WorldStudy(
    name="replay",
    world="shop",
    methods={f"{u} updates": {"updates_per_transition": u} for u in (0.02, 0.1, 0.5, 2.0)},
    base={
        "double": False, "learning_rate": 1e-3, "learning_rate_end": None, "buffer_size": STEPS,
        "target_sync_every": None,
    },
    seeds=SEEDS,
    total_steps=STEPS,
)  # fmt: skip
