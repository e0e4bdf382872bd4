"""Losses on CartPole: with Huber's the values run away, unless q settles between syncs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym

from dqnrec_lite.config import DQNConfig
from dqnrec_lite.dqn import DQN
from dqnrec_lite.studies.study import Outcome, Study, settings_of

LOSS_STEPS, LOSS_LANES = 100_000, 8


def pole_config(seed: int, **changes: Any) -> DQNConfig:
    """CartPole's settings in CleanRL's script (arXiv:2111.08819), which syncs every 500 steps."""
    config = DQNConfig(
        seed=seed,
        discount=0.99,
        learning_rate=2.5e-4,
        learning_rate_end=None,
        hidden_sizes=(120, 84),
        buffer_size=10_000,
        learning_starts=10_000,
        updates_per_transition=0.1,
        epsilon_fraction=0.5,
        target_sync_every=50,
        double=False,
    )
    return replace(config, **changes)


@dataclass(frozen=True, kw_only=True)
class LossStudy(Study):
    """DQNs on CartPole; a method is changes of `pole_config`."""

    def settings(self, method: str, seed: int) -> dict[str, Any]:
        """The config, and the size of the training."""
        made = settings_of(pole_config(seed, **self.methods[method]))
        return made | {"total_steps": LOSS_STEPS, "num_envs": LOSS_LANES}

    def run(self, method: str, seed: int) -> Outcome:
        """How large the values become; no true one exceeds 1 / (1 - discount) = 100."""
        config = pole_config(seed, **self.methods[method])
        envs = gym.make_vec("CartPole-v1", num_envs=LOSS_LANES)
        agent = DQN(envs.single_observation_space, envs.single_action_space, config)
        start = time.perf_counter()
        curve = agent.learn(envs, LOSS_STEPS)
        seconds = time.perf_counter() - start
        q = agent.q_values(agent.replay.data.observation)  # of the last 10,000 steps
        return Outcome(seconds, {"largest q": float(q.max())}, curve)


RARE = {"loss": "huber", "target_sync_every": 500}  # q settles between syncs
STUDY = LossStudy(
    name="loss",
    methods={
        "mse": {},
        "huber": {"loss": "huber"},
        "huber, rare syncs": RARE,
        "huber, one update a step": RARE | {"updates_per_transition": 1.0},
    },
)
