"""What the book's worlds share as Gymnasium environments."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dqnrec_lite._checks import MANY, check_array, check_integers, check_whole

Played = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class Lanes(VectorEnv):
    """Sessions side by side, one a lane, each started anew in the step in which it ends.

    A world says how sessions begin, what an action does and what an agent sees: the four methods
    at the end. The rest is here: spaces, page numbers, truncation at the page limit, and
    Gymnasium's same-step autoreset, in which `info` holds the last observations of ended sessions
    as `final_obs`, with the mask `_final_obs`.

    Args:
        num_envs: how many sessions run side by side (n).
        seed: where the world's random draws start.
        page_limit: pages after which a session is truncated; None: never.

    Attributes:
        page: (n,) int64, pages that each session has seen so far.

    Raises:
        ValueError: an argument is out of range.
    """

    metadata: dict[str, Any] = {
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, num_envs: int, seed: int, page_limit: int | None) -> None:
        self.num_envs = check_whole("num_envs", num_envs, 1, MANY)
        self.seed = check_whole("seed", seed, 0)
        self.page_limit = None if page_limit is None else check_whole("page_limit", page_limit)
        self.page = np.zeros(self.num_envs, np.int64)
        self._begun = False

    def _set_spaces(self, low: np.ndarray, high: np.ndarray, num_actions: int) -> None:
        """What one session shows, between low and high, and how many actions it takes."""
        self.single_observation_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.single_action_space = gym.spaces.Discrete(num_actions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a new session in every lane.

        Args:
            seed: starts the random draws from its beginning; None goes on with them.
            options: not used.

        Returns:
            The first observations, (n, observation_size) float32, and `info`.
        """
        if seed is not None:
            self._start_draws(seed)
        self._start(np.arange(self.num_envs))
        self._begun = True
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> Played:
        """One action in every session.

        Args:
            actions: (n,) integers.

        Returns:
            Observations to act on next, rewards, terminated, truncated (the page limit was
            reached), each of n rows, and `info`.

        Raises:
            gymnasium.error.ResetNeeded: `reset` was not called yet.
            ValueError: actions of wrong shape, dtype or range; no session is changed then.
        """
        reward, terminated, truncated, info = self._play(actions)
        ended = terminated | truncated
        if ended.any():
            info["final_obs"], info["_final_obs"] = self._observe(), ended
            self._start(np.flatnonzero(ended))
        return self._observe(), reward, terminated, truncated, info

    def _play(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """`step` without what follows the end of a session."""
        if not self._begun:
            raise ResetNeeded("step: no session has begun yet, call reset first")
        num_actions = int(self.single_action_space.n)  # type: ignore[attr-defined]
        actions = check_integers("actions", actions, (self.num_envs,), num_actions)
        reward, terminated, info = self._advance(actions)
        self.page = self.page + 1  # a new array: the world may have handed out the old one
        limit = np.inf if self.page_limit is None else self.page_limit
        return reward, terminated, ~terminated & (self.page >= limit), info

    def _start(self, lanes: np.ndarray) -> None:
        self.page[lanes] = 0
        self._begin(lanes)

    @abstractmethod
    def _start_draws(self, seed: int | list[int]) -> None:
        """Start the random draws from the beginning of a seed."""

    @abstractmethod
    def _begin(self, lanes: np.ndarray) -> None:
        """Begin a new session in each of `lanes`, indices."""

    @abstractmethod
    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """What one action does in every lane: rewards, terminated, and what `info` tells."""

    @abstractmethod
    def _observe(self) -> np.ndarray:
        """What the sessions show now, as an array of its own."""


class SingleLane(gym.Env):
    """A world with one lane, as a plain `gymnasium.Env`.

    Args:
        lanes: the world, num_envs = 1.
        render_mode: None; `gymnasium.make` may pass it.

    Attributes:
        seed, page_limit: those of the world.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, lanes: Lanes, render_mode: None = None) -> None:
        self.lanes = lanes
        self.seed, self.page_limit = lanes.seed, lanes.page_limit
        self.observation_space = lanes.single_observation_space
        self.action_space = lanes.single_action_space
        self.render_mode = render_mode
        self._ended = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new session. A seed starts the random draws from its beginning; None goes on."""
        if seed is not None:
            seed = check_whole("seed", seed, 0)
        super().reset(seed=seed)
        observations, info = self.lanes.reset(seed=seed)
        self._ended = False
        return observations[0], _of_the_only_lane(info)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One action, an integer.

        Raises:
            gymnasium.error.ResetNeeded: no session has begun, or the last one has ended.
            ValueError: the action is none.
        """
        if self._ended:
            raise ResetNeeded("step: the session has ended, call reset first")
        actions = check_array("action", action, kinds="iu")
        if actions.size != 1:
            raise ValueError(f"action: one integer expected, got shape {actions.shape}")
        reward, terminated, truncated, info = self.lanes._play(actions.reshape(1))
        self._ended = bool(terminated[0] or truncated[0])
        observation = self.lanes._observe()[0]
        ends = bool(terminated[0]), bool(truncated[0])
        return observation, float(reward[0]), *ends, _of_the_only_lane(info)


def _of_the_only_lane(info: dict[str, Any]) -> dict[str, Any]:
    """Each array's only row; a number becomes Python's own."""
    return {name: rows[0].item() if rows.ndim == 1 else rows[0] for name, rows in info.items()}
