"""Why a healthy DQN promises too much on PocketShop: the cause, taken away.

All learn from one log of random pages, so nothing differs but the target. With the maximum in it,
its Double DQN, and without any: q of the best action, known exactly, in the maximum's place, so
that the same network learns the values of the best policy. And with the maximum, but a number a
state, so that no two states share what they learn.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from dqnrec_lite.config import DQNConfig
from dqnrec_lite.dqn import DQN
from dqnrec_lite.envs.pocket import PocketShop
from dqnrec_lite.envs.tabular import FiniteMDP, value_iteration
from dqnrec_lite.replay import Batch
from dqnrec_lite.sessions import Sessions
from dqnrec_lite.studies.study import Outcome, Study, settings_of

LOG, UPDATES = 30_000, 3_000  # transitions; gradient steps
MAXIMUM, DOUBLE = "maximum", "Double DQN"
NO_MAXIMUM, ONE_HOT = "no maximum", "maximum, a number a state"


def random_log(pocket: PocketShop, seed: int) -> Batch:
    """`LOG` transitions of random items, as the replay buffer takes them."""
    rng, sessions = np.random.default_rng([seed, 5]), Sessions(pocket.vector(64, seed=seed))
    sessions.reset(seed=seed)
    parts: list[tuple[np.ndarray, ...]] = []
    while sum(len(part[0]) for part in parts) < LOG:
        observation, item = sessions.observations.copy(), rng.integers(0, pocket.R.shape[1], 64)
        step = sessions.step(item)
        part = observation, item, step.reward, step.next_observation, step.terminated
        parts.append(tuple(column[step.valid] for column in part))
    seen, item, reward, following, ended = (
        np.concatenate(column)[:LOG] for column in zip(*parts, strict=True)
    )
    return Batch(seen, item, reward, following, ended, np.ones(LOG))


def states_of(mdp: FiniteMDP, observations: np.ndarray) -> np.ndarray:
    """(n, size) observations -> (n,) numbers of the states that are seen so."""
    numbers = {row.tobytes(): state for state, row in enumerate(mdp.observations)}
    return np.array([numbers[row.tobytes()] for row in observations])


@dataclass(frozen=True, kw_only=True)
class PromiseStudy(Study):
    """What a new customer's largest q promises, beside the best that any policy earns."""

    methods: Mapping[str, Mapping[str, Any]]

    def config(self, method: str, seed: int) -> DQNConfig:
        """A small network, and a hundred gradient steps between two copies."""
        return DQNConfig(
            seed=seed,
            discount=0.95,
            hidden_sizes=(32, 32),
            batch_size=64,
            learning_rate=1e-3,
            buffer_size=LOG,
            target_sync_every=100,
            double=method == DOUBLE,
        )

    def settings(self, method: str, seed: int) -> dict[str, Any]:
        """The config, and the size of the log."""
        return settings_of(self.config(method, seed)) | {"log": LOG, "updates": UPDATES}

    def run(self, method: str, seed: int) -> Outcome:
        """Learn from the log, then ask for the promise at the door."""
        pocket, config = PocketShop(), self.config(method, seed)
        mdp, log = pocket.mdp, random_log(pocket, seed)
        best, seen, box = value_iteration(mdp, config.discount), mdp.observations, None
        if method == NO_MAXIMUM:  # all but the best action are forbidden in the target
            following = best.argmax(axis=1)[states_of(mdp, log.next_observation)]
            log = log._replace(next_action_mask=np.eye(best.shape[1], dtype=bool)[following])
        if method == ONE_HOT:
            seen = np.eye(len(mdp.observations), dtype=np.float32)
            box = gym.spaces.Box(0.0, 1.0, seen[0].shape)
            log = log._replace(
                observation=seen[states_of(mdp, log.observation)],
                next_observation=seen[states_of(mdp, log.next_observation)],
            )
        agent = DQN(box or pocket.observation_space, pocket.action_space, config)
        agent.replay.add(log)
        start = time.perf_counter()
        agent.update(UPDATES)
        seconds = time.perf_counter() - start
        q = agent.q_values(seen)
        value = q.max(axis=1)
        if method == NO_MAXIMUM:
            value = q[np.arange(len(q)), best.argmax(axis=1)]
        promise = float(mdp.start @ value / (mdp.start @ best.max(axis=1)))
        return Outcome(seconds, {"promise over optimum": promise}, None)


STUDY = PromiseStudy(
    name="promise", methods={name: {} for name in (MAXIMUM, DOUBLE, NO_MAXIMUM, ONE_HOT)}
)
