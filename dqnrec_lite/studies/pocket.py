"""PocketShop, which can be solved exactly: how close do the network's policy and values come?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from dqnrec_lite.config import DQNConfig
from dqnrec_lite.dqn import DQN
from dqnrec_lite.envs.pocket import PocketShop
from dqnrec_lite.envs.tabular import policy_value, value_iteration
from dqnrec_lite.studies.study import Outcome, Study, settings_of

POCKET_STEPS, POCKET_LANES = 4_000_000, 1024


def pocket_config(seed: int) -> DQNConfig:
    """Settings that learn PocketShop's values as well as its policy: much data, much exploring."""
    return DQNConfig(
        seed=seed,
        discount=0.95,
        hidden_sizes=(64, 64),
        batch_size=512,
        buffer_size=3_000_000,
        updates_per_transition=0.0075,
        target_sync_every=150,
        epsilon_end=0.8,
        epsilon_fraction=0.5,
        learning_rate=1e-3,
        learning_rate_end=0.0,
        double=True,
    )


@dataclass(frozen=True, kw_only=True)
class PocketStudy(Study):
    """One DQN in PocketShop, beside the exact solution."""

    def settings(self, method: str, seed: int) -> dict[str, Any]:
        """The config, and the size of the training."""
        made = settings_of(pocket_config(seed))
        return made | {"total_steps": POCKET_STEPS, "num_envs": POCKET_LANES}

    def run(self, method: str, seed: int) -> Outcome:
        """Train; then compare the greedy policy and its values with the exact ones."""
        pocket, config = PocketShop(), pocket_config(seed)
        best = value_iteration(pocket, config.discount)
        envs = pocket.vector(POCKET_LANES, seed=seed)
        agent = DQN(envs.single_observation_space, envs.single_action_space, config)
        start = time.perf_counter()
        curve = agent.learn(envs, POCKET_STEPS)
        seconds = time.perf_counter() - start
        q = agent.q_values(pocket.mdp.observations)
        value = policy_value(pocket, q.argmax(axis=1), config.discount)
        v, seen = best.max(axis=1), pocket.mdp.reachable
        largest = np.abs(q.max(axis=1) - v)[seen].max()
        figures = {
            "share of optimum": float(pocket.mdp.start @ value / (pocket.mdp.start @ v)),
            "largest error over range": float(largest / np.ptp(v[seen])),
        }
        return Outcome(seconds, figures, curve)


STUDY = PocketStudy(name="pocket", methods={"DQN": {}})
