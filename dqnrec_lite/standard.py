"""Gymnasium's standard tasks: does the DQN learn in worlds that are not ours?

Settings were chosen on seeds 0 to 99. The agent at the end of training counts: none is picked from
along the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from dqnrec_lite.config import DQNConfig
from dqnrec_lite.curve import LearningCurve
from dqnrec_lite.dqn import DQN
from dqnrec_lite.evaluation import Policy, evaluate

LANES, EPISODES, POINTS, POINT_EPISODES = 8, 100, 10, 20


class Task(NamedTuple):
    """One of Gymnasium's tasks, and how much of it is allowed."""

    name: str
    total_steps: int  # transitions
    required: float | None  # mean return of the greedy policy; None: reported as found


TASKS = {
    "cartpole": Task("CartPole-v1", 50_000, 475.0),
    "acrobot": Task("Acrobot-v1", 100_000, -100.0),
    "mountaincar": Task("MountainCar-v0", 100_000, None),
}
# The table of settings: what all tasks share, and what CartPole and the others have for themselves.
SHARED: dict[str, Any] = {
    "discount": 0.99,
    "hidden_sizes": (64, 64),
    "batch_size": 256,
    "updates_per_transition": 0.5,
    "learning_rate_end": 0.0,
}
CARTPOLE: dict[str, Any] = {  # longer targets, younger data for them, a wide dueling network
    "hidden_sizes": (256, 256),
    "dueling": True,
    "batch_size": 64,
    "n_step": 3,
    "buffer_size": 10_000,
    "epsilon_end": 0.02,
    "epsilon_fraction": 0.1,
    "learning_rate": 1e-3,
    "target_sync_every": 64,
}
ONE_STEP: dict[str, Any] = {
    "n_step": 1,
    "buffer_size": 50_000,
    "epsilon_end": 0.05,
    "epsilon_fraction": 0.2,
    "learning_rate": 2.3e-3,
    "target_sync_every": 48,
}
# Changes of a task's settings, by method: what the book shows to work, and to fail.
STANDARD_DQNS: dict[str, dict[str, Any]] = {
    "DQN": {},
    "one step": ONE_STEP,
    "rare syncs": ONE_STEP | {"target_sync_every": 500},
    "large buffer": {"buffer_size": 50_000},
}
STANDARD_METHODS = {
    "cartpole": tuple(STANDARD_DQNS),
    "acrobot": ("DQN",),
    "mountaincar": ("DQN",),
}


def standard_config(study: str, seed: int, **changes: Any) -> DQNConfig:
    """The table of settings for the standard tasks; `study` is one of `TASKS`."""
    own = CARTPOLE if study == "cartpole" else ONE_STEP
    return DQNConfig(seed=seed, **(SHARED | own | changes))


def standard_settings(study: str, method: str, seed: int) -> dict[str, Any]:
    """What a row is made with."""
    task = TASKS[study]
    made = asdict(standard_config(study, seed, **STANDARD_DQNS[method]))
    made |= {"environment": task.name, "total_steps": task.total_steps, "num_envs": LANES}
    return made | {"episodes": EPISODES, "test_seed": test_seed(seed)}


class Watched(VectorWrapper):
    """Steps an environment, and lets `watch` look at the agent at each tenth of its training.

    Args:
        envs: what the agent learns in.
        agent: the one that learns.
        total_steps: transitions of the training.
        watch: called with nothing; the environment and the agent's state are none of its business.
    """

    def __init__(
        self, envs: VectorEnv, agent: DQN, total_steps: int, watch: Callable[[], None]
    ) -> None:
        super().__init__(envs)
        self.agent, self.watch = agent, watch
        self.due = [total_steps * i // POINTS for i in range(1, POINTS)]

    def step(self, actions: np.ndarray) -> Any:
        """One step; before it the agent is looked at if it is time."""
        if self.due and self.agent.transitions >= self.due[0]:
            self.due.pop(0)
            self.watch()
        return super().step(actions)


def run_task(
    study: str, config: DQNConfig, first_weights: list[np.ndarray] | None = None
) -> tuple[float, dict[str, Any], LearningCurve]:
    """Train on one of `TASKS`; seconds, figures and the learning curve.

    The figures hold those of `judge`, and under "greedy" the mean return of the greedy policy at
    each tenth of the training, 20 episodes each. The seconds are without this looking.

    Args:
        study: name of the task.
        config: the settings.
        first_weights: of both networks, kernel, bias, kernel, bias, ...; None: drawn as ever.
    """
    task, seed, greedy, looking = TASKS[study], config.seed, [], 0.0
    envs = gym.make_vec(task.name, num_envs=LANES)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    if first_weights is not None:
        agent.set_weights(first_weights)
    others = gym.make_vec(task.name, num_envs=POINT_EPISODES)

    def look() -> None:
        nonlocal looking
        start = time.perf_counter()
        greedy.append(evaluate(agent.predict, others, POINT_EPISODES, test_seed(seed)).mean)
        looking += time.perf_counter() - start

    start = time.perf_counter()
    curve = agent.learn(Watched(envs, agent, task.total_steps, look), task.total_steps)
    seconds = time.perf_counter() - start - looking
    look()
    return seconds, judge(agent.predict, agent.q_values, study, seed) | {"greedy": greedy}, curve


def test_seed(seed: int) -> int:
    """Seed of the environment in which the agent of a training seed is judged."""
    return seed + 1000


def judge(policy: Policy, q_values: Policy, study: str, seed: int) -> dict[str, Any]:
    """Mean, lowest and highest return of 100 episodes, and what the agent promises before them.

    The promise is the mean of max q(s, a) at their first observations, discounted.
    """
    envs = gym.make_vec(TASKS[study].name, num_envs=EPISODES)
    returns = evaluate(policy, envs, EPISODES, test_seed(seed)).returns
    first, _ = envs.reset(seed=test_seed(seed))
    return {
        "return": float(returns.mean()),
        "lowest": float(returns.min()),
        "highest": float(returns.max()),
        "promise": float(q_values(first).max(axis=1).mean()),
    }


# Losses on CartPole: changes of `pole_config`. The last two let q settle between syncs.
LOSS_DQNS: dict[str, dict[str, Any]] = {
    "mse": {},
    "huber": {"loss": "huber"},
    "huber, rare syncs": {"loss": "huber", "target_sync_every": 500},
    "huber, one update a step": {
        "loss": "huber", "target_sync_every": 500, "updates_per_transition": 1.0
    },
}  # fmt: skip
LOSS_STEPS = 100_000


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
        target_sync_every=50,
        double=False,
    )
    return replace(config, **changes)


def loss_settings(method: str, seed: int) -> dict[str, Any]:
    """What a row of the study of losses is made with."""
    made = asdict(pole_config(seed, **LOSS_DQNS[method]))
    return made | {"total_steps": LOSS_STEPS, "num_envs": LANES}


def run_loss(method: str, seed: int) -> tuple[float, dict[str, Any], LearningCurve]:
    """How large the values become; no true one exceeds 1 / (1 - discount) = 100."""
    config = pole_config(seed, **LOSS_DQNS[method])
    envs = gym.make_vec("CartPole-v1", num_envs=LANES)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    start = time.perf_counter()
    curve = agent.learn(envs, LOSS_STEPS)
    seconds = time.perf_counter() - start
    q = agent.q_values(agent.replay.data.observation)  # of the last 10,000 steps
    return seconds, {"largest q": float(q.max())}, curve
