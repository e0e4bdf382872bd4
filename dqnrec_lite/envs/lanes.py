"""What the book's worlds share as Gymnasium environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from dqnrec_lite._checks import check_array, check_whole


class SingleSession(gym.Env):
    """A same-step vector environment with one session, as a plain `gymnasium.Env`.

    Args:
        sessions: the vector environment, num_envs = 1.
        render_mode: None; Gymnasium passes it.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, sessions: VectorEnv, render_mode: None = None) -> None:
        self.sessions = sessions
        self.observation_space = sessions.single_observation_space
        self.action_space = sessions.single_action_space
        self.render_mode = render_mode
        self._next: np.ndarray | None = None  # first observation of the session already begun

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new session. A seed starts the stream of sessions from the beginning."""
        if seed is not None:
            seed = check_whole("seed", seed, 0)
        super().reset(seed=seed)
        if seed is None and self._next is not None:
            observation = self._next
        else:
            observation = self.sessions.reset(seed=seed)[0][0]
        self._next = None
        return observation, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One action. After the end of a session `reset` must be called."""
        actions = check_array("action", action, kinds="iu")
        if actions.size != 1:
            raise ValueError(f"action: one integer expected, got shape {actions.shape}")
        observations, reward, terminated, truncated, info = self.sessions.step(actions.reshape(1))
        observation = observations[0]
        if terminated[0] or truncated[0]:
            self._next, observation = observation, info["final_obs"][0]
        kept = {k: int(v[0]) for k, v in info.items() if not k.endswith("final_obs")}
        return observation, float(reward[0]), bool(terminated[0]), bool(truncated[0]), kept
