"""Training keeps what it computed that it would keep, and nothing more, however long it runs."""

import json
import subprocess
import sys

import gymnasium as gym
import numpy as np
import psutil  # comes with ipykernel
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from dqnrec_lite import DQN, DQNConfig

pytestmark = pytest.mark.alone

SESSIONS, SIZE, LENGTH = 1000, 16, 50
CAPACITY, TRANSITIONS = 30_000, 1_000_000
WARM_UP = 50_000  # until replay is full and everything is compiled
ALLOWED = 3e6  # bytes; one observation kept of each transition is 64e6


class Treadmill(VectorEnv):
    """Sessions of fixed length that cost next to nothing. `kept` gets what a leak would keep."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, kept: list[np.ndarray] | None = None) -> None:
        self.kept = kept
        self.num_envs = SESSIONS
        self.single_observation_space = gym.spaces.Box(0, 1, (SIZE,), np.float32)
        self.single_action_space = gym.spaces.Discrete(3)
        self.rng, self.clock = np.random.default_rng(0), 0
        self.resident: list[int] = []  # bytes, every fifth step

    def reset(self, *, seed=None, options=None):
        return self._observation(), {}

    def step(self, actions):
        self.clock += 1
        if self.clock % 5 == 0:
            self.resident.append(psutil.Process().memory_info().rss)
        over = np.full(SESSIONS, self.clock % LENGTH == 0)
        observation = self._observation()
        if self.kept is not None:
            self.kept.append(observation.repeat(4, axis=0))
        return observation, np.ones(SESSIONS), over, np.zeros(SESSIONS, bool), {}

    def _observation(self) -> np.ndarray:
        return self.rng.random((SESSIONS, SIZE), np.float32)


def train(transitions: int, leaks: bool) -> dict[str, float]:
    """A training; how memory grew along it once replay was full and everything compiled.

    Growth is over the transitions after the warm-up, from the first tenth's smallest to the last
    tenth's: what is kept, not what passes. Epsilon falls all the while, so that at each step
    another number of sessions asks the network.
    """
    envs = Treadmill(kept=[] if leaks else None)
    config = DQNConfig(
        buffer_size=CAPACITY, updates_per_transition=0.002, hidden_sizes=(16,), epsilon_fraction=1.0
    )
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    agent.learn(envs, WARM_UP + transitions, progress=False)
    resident = np.array(envs.resident[WARM_UP // (5 * SESSIONS) :])
    tenth = len(resident) // 10
    return {
        "growth": int(resident[-tenth:].min() - resident[:tenth].min()),
        "transitions": agent.transitions,
        "updates": agent.updates,
        "stored": len(agent.replay),
        "nbytes": agent.replay.nbytes,
        "array_bytes": sum(array.nbytes for array in agent.replay.data if array is not None),
    }


def train_alone(transitions: int, *leaks: str) -> dict[str, float]:
    """In a process of its own: in an old one a leak would first fill what others have freed.

    Some 60 MB are free in a new one too, from compiling; a leak shows by what goes beyond.
    """
    command = [sys.executable, __file__, str(transitions), *leaks]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout)


def test_memory_is_flat_over_the_first_million_transitions() -> None:
    found = train_alone(TRANSITIONS)
    assert found["transitions"] == WARM_UP + TRANSITIONS
    assert found["updates"] > 2000
    assert found["stored"] == CAPACITY
    assert found["nbytes"] == found["array_bytes"] == CAPACITY * (8 * SIZE + 16)
    assert found["growth"] < ALLOWED


def test_a_leak_would_show() -> None:
    """The same, shorter, with arrays of each step kept by accident: the check must see it."""
    assert train_alone(TRANSITIONS // 3, "leaks")["growth"] > 2 * ALLOWED


if __name__ == "__main__":
    print(json.dumps(train(int(sys.argv[1]), leaks=len(sys.argv) > 2)))
