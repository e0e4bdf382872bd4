"""Any Gymnasium environment as sessions side by side, whatever its way of starting anew.

Vector environments restart ended sessions by themselves, in one of three ways (Gymnasium's
`AutoresetMode`), and each hides the last observation in another place. Getting it wrong stores
transitions that never happened. Here, and nowhere else, the three become one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from dqnrec_lite._checks import check_array, check_integers, check_spaces, check_whole


class Step(NamedTuple):
    """One step of n sessions. Rows where `valid` is False did not happen: only a reset did."""

    reward: np.ndarray  # (n,) float64
    next_observation: np.ndarray  # (n, observation_size): the true successor, never the reset one
    terminated: np.ndarray  # (n,) bool
    truncated: np.ndarray  # (n,) bool
    valid: np.ndarray  # (n,) bool


class Sessions:
    """Steps an environment and keeps the observations to act on next.

    Args:
        env: a `gymnasium.Env` or `gymnasium.vector.VectorEnv` with Box observations of rank 1 and
            Discrete actions that start at 0.

    Raises:
        TypeError: env is neither of the two.
        ValueError: its spaces are of another kind; or it is an `AsyncVectorEnv` whose next-step
            autoreset cannot be relied on (shared_memory=False; seen in Gymnasium 1.4).
    """

    def __init__(self, env: gym.Env | VectorEnv) -> None:
        if isinstance(env, gym.Env):
            only = env
            env = SyncVectorEnv([lambda: only], autoreset_mode=AutoresetMode.DISABLED)
        if not isinstance(env, VectorEnv):
            raise TypeError(f"env: gymnasium.Env or VectorEnv expected, got {type(env).__name__}")
        spaces = env.single_observation_space, env.single_action_space
        self.observation_size, self.num_actions = check_spaces(*spaces)
        self.env: VectorEnv = env
        inner = env.unwrapped
        # Gymnasium's own vectors come first: below 1.4, all that are made of one environment class
        # share their metadata, which then names the mode of the one made last.
        said = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        mode = getattr(inner, "autoreset_mode", said)
        self.mode = mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
        next_step = self.mode == AutoresetMode.NEXT_STEP
        if next_step and isinstance(inner, AsyncVectorEnv) and not inner.shared_memory:
            raise ValueError(  # its workers take the step after a reset for another reset
                "env: AsyncVectorEnv(shared_memory=False) with next-step autoreset loses a session "
                "where a reset follows an end; shared_memory=True or another mode expected"
            )
        self.num_envs = env.num_envs
        self.observations = np.empty(0)
        self._restarting = np.zeros(self.num_envs, bool)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Start every session anew; returns the observations to act on, (n, observation_size)."""
        if seed is not None:
            seed = check_whole("seed", seed, 0)
        observations, _ = self.env.reset(seed=seed)
        self.observations = np.array(self._checked("observation", observations))
        self._restarting[:] = False
        return self.observations

    def step(self, actions: np.ndarray) -> Step:
        """One action in every session, (n,) integers. What is refused reaches no session.

        Raises:
            ValueError: actions of wrong shape, dtype or range; or the environment returns something
                else than n finite observations and rewards, and bools for the ends.
        """
        actions = check_integers("actions", actions, (self.num_envs,), self.num_actions)
        observations, reward, terminated, truncated, info = self.env.step(actions)
        check_array("reward", reward, (self.num_envs,))
        self._checked("observation", observations)
        check_array("terminated", terminated, (self.num_envs,), "b")
        check_array("truncated", truncated, (self.num_envs,), "b")
        ended = terminated | truncated
        valid = ~self._restarting
        next_observation = np.array(observations)
        if self.mode == AutoresetMode.NEXT_STEP:
            self._restarting = ended
        elif self.mode == AutoresetMode.SAME_STEP:
            for i in np.flatnonzero(ended):
                next_observation[i] = info["final_obs"][i]
            self._checked("final observation", next_observation)
        elif ended.any():
            observations, _ = self.env.reset(options={"reset_mask": ended})
        self.observations = np.array(observations)
        return Step(
            np.array(reward), next_observation, np.array(terminated), np.array(truncated), valid
        )

    def _checked(self, name: str, observations: Any) -> np.ndarray:
        return check_array(name, observations, (self.num_envs, self.observation_size))
