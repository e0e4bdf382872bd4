"""Training keeps what it computed that it would keep, and nothing more, however long it runs."""

import gc

import gymnasium as gym
import numpy as np
import psutil  # comes with ipykernel
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from dqnrec_lite import DQN, DQNConfig

SESSIONS, SIZE, LENGTH = 1000, 8, 50
CAPACITY, TRANSITIONS = 50_000, 1_000_000
ALLOWED = 8e6  # bytes: 9 a transition, less than any number kept for each would take


class Treadmill(VectorEnv):
    """Sessions of fixed length that cost next to nothing."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, kept: list[np.ndarray] | None = None) -> None:
        self.kept = kept  # None: nothing
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
            self.kept.append(observation)
        return observation, np.ones(SESSIONS), over, np.zeros(SESSIONS, bool), {}

    def _observation(self) -> np.ndarray:
        return self.rng.random((SESSIONS, SIZE), np.float32)


def trained(envs: Treadmill) -> tuple[DQN, np.ndarray]:
    """A long training, and the memory along it once replay is full and everything compiled."""
    config = DQNConfig(buffer_size=CAPACITY, updates_per_transition=0.002, hidden_sizes=(16,))
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    gc.collect()
    agent.learn(envs, TRANSITIONS, progress=False)
    return agent, np.array(envs.resident[2 * CAPACITY // (5 * SESSIONS) :])


def growth(resident: np.ndarray) -> float:
    """Bytes from the first tenth to the last, by their smallest: what is kept, not what passes."""
    tenth = len(resident) // 10
    return float(resident[-tenth:].min() - resident[:tenth].min())


def test_memory_is_flat_over_a_million_transitions() -> None:
    agent, resident = trained(Treadmill())
    assert agent.transitions == TRANSITIONS
    assert agent.updates > 1800
    assert len(agent.replay) == CAPACITY
    kept = sum(array.nbytes for array in agent.replay.data)
    assert agent.replay.nbytes == kept == CAPACITY * (8 * SIZE + 16)
    assert growth(resident) < ALLOWED


def test_a_leak_would_show() -> None:
    """The same with one array of each step kept by accident: the check above must see it."""
    _, resident = trained(Treadmill(kept=[]))
    assert growth(resident) > ALLOWED


@pytest.mark.parametrize("capacity", [10, 1000])
def test_replay_holds_its_arrays_and_no_others(capacity: int) -> None:
    envs = Treadmill()
    config = DQNConfig(buffer_size=capacity, batch_size=10, learning_starts=10)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    arrays = [v for v in vars(agent.replay).values() if isinstance(v, np.ndarray)]
    assert arrays == []
    assert agent.replay.nbytes == capacity * (8 * SIZE + 16)
