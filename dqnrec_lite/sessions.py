"""Any Gymnasium environment as sessions side by side, whatever its way of starting anew.

Vector environments restart ended sessions by themselves, in one of three ways (Gymnasium's
`AutoresetMode`), and each hides the last observation in another place. Getting it wrong stores
transitions that never happened. Here, and nowhere else, the three become one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv


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
        ValueError: its spaces are of another kind.
    """

    def __init__(self, env: gym.Env | VectorEnv) -> None:
        if isinstance(env, gym.Env):
            only = env
            env = SyncVectorEnv([lambda: only], autoreset_mode=AutoresetMode.DISABLED)
        if not isinstance(env, VectorEnv):
            raise TypeError(f"env: gymnasium.Env or VectorEnv expected, got {type(env).__name__}")
        check_spaces(env.single_observation_space, env.single_action_space)
        self.env: VectorEnv = env
        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.mode = mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
        self.num_envs = env.num_envs
        self.observations = np.empty(0)
        self._restarting = np.zeros(self.num_envs, bool)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Start every session anew; returns the observations to act on, (n, observation_size)."""
        observations, _ = self.env.reset(seed=seed)
        check_finite("observation", observations)
        self.observations = np.array(observations)
        self._restarting[:] = False
        return self.observations

    def step(self, actions: np.ndarray) -> Step:
        """One action in every session, (n,) int64."""
        observations, reward, terminated, truncated, info = self.env.step(actions)
        check_finite("reward", reward)
        check_finite("observation", observations)
        ended = terminated | truncated
        valid = ~self._restarting
        next_observation = np.array(observations)
        if self.mode == AutoresetMode.NEXT_STEP:
            self._restarting = ended
        elif self.mode == AutoresetMode.SAME_STEP:
            for i in np.flatnonzero(ended):
                next_observation[i] = info["final_obs"][i]
            check_finite("final observation", next_observation)
        elif ended.any():
            observations, _ = self.env.reset(options={"reset_mask": ended})
        self.observations = np.array(observations)
        return Step(
            np.array(reward), next_observation, np.array(terminated), np.array(truncated), valid
        )


def check_spaces(observation_space: Any, action_space: Any) -> tuple[int, int]:
    """Observation size and number of actions; a ValueError unless the spaces are Box of rank 1 and
    Discrete starting at 0."""
    if not isinstance(observation_space, gym.spaces.Box) or len(observation_space.shape) != 1:
        raise ValueError(f"observation_space: Box of rank 1 expected, got {observation_space}")
    if not isinstance(action_space, gym.spaces.Discrete) or action_space.start != 0:
        raise ValueError(f"action_space: Discrete starting at 0 expected, got {action_space}")
    return int(observation_space.shape[0]), int(action_space.n)


def check_observations(observations: Any, size: int) -> np.ndarray:
    """A batch of observations as (batch, size) float32, or a ValueError that says what is wrong."""
    array = np.asarray(observations)
    if array.ndim != 2 or array.shape[1] != size or array.dtype.kind not in "fiub":
        raise ValueError(
            f"observations: numbers of shape (batch, {size}) expected, got {array.dtype} "
            f"of shape {array.shape}"
        )
    check_finite("observations", array)
    return np.ascontiguousarray(array, np.float32)


def check_finite(name: str, array: Any) -> None:
    """A ValueError that says where, if an array holds NaN or what float32 cannot."""
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.asarray(array, np.float32))
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{name}{list(where)} is {np.asarray(array)[where]}: must be finite")


def check_actions(actions: Any, num_envs: int, num_actions: int) -> np.ndarray:
    """Actions as an (num_envs,) integer array, or a ValueError that says what is wrong."""
    array = np.asarray(actions)
    if array.shape != (num_envs,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"actions: ({num_envs},) integers expected, got {array.dtype} of shape {array.shape}"
        )
    wrong = np.flatnonzero((array < 0) | (array >= num_actions))
    if wrong.size:
        raise ValueError(f"actions[{wrong[0]}]={array[wrong[0]]}: must lie in [0, {num_actions})")
    return array.astype(np.int64, copy=False)


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
        super().reset(seed=seed)
        if seed is None and self._next is not None:
            observation = self._next
        else:
            observation = self.sessions.reset(seed=seed)[0][0]
        self._next = None
        return observation, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One action. After the end of a session `reset` must be called."""
        observations, reward, terminated, truncated, info = self.sessions.step(
            np.array([action]).reshape(1)
        )
        observation = observations[0]
        if terminated[0] or truncated[0]:
            self._next, observation = observation, info["final_obs"][0]
        kept = {k: int(v[0]) for k, v in info.items() if not k.endswith("final_obs")}
        return observation, float(reward[0]), bool(terminated[0]), bool(truncated[0]), kept
