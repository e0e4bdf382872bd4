"""Any Gymnasium environment as sessions side by side, whatever its way of starting anew.

Vector environments restart ended sessions by themselves, in one of three ways (Gymnasium's
`AutoresetMode`), and each hides the last observation, and what may be done there, in another
place. Getting it wrong stores transitions that never happened. Here, and nowhere else, the three
become one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from dqnrec_lite._checks import check_actions, check_array, check_mask, check_spaces, check_whole


class Step(NamedTuple):
    """One step of n sessions. Rows where `valid` is False did not happen: only a reset did."""

    reward: np.ndarray  # (n,) float64
    next_observation: np.ndarray  # (n, observation_size): the true successor, never the reset one
    terminated: np.ndarray  # (n,) bool
    truncated: np.ndarray  # (n,) bool
    valid: np.ndarray  # (n,) bool
    next_action_mask: np.ndarray | None = None  # (n, actions) bool: allowed there; None: all are
    info: dict[str, Any] = {}  # the environment's, as it came


class Sessions:
    """Steps an environment and keeps the observations to act on next.

    An environment that allows some actions only says so as Gymnasium's do: `info["action_mask"]`,
    (actions,) of 0 and 1, or (n, actions) from a vector, after `reset` and after each step.

    Args:
        env: a `gymnasium.Env` or `gymnasium.vector.VectorEnv` with Box observations of rank 1 and
            Discrete actions.

    Attributes:
        observations: (n, observation_size), to act on next.
        action_mask: (n, actions) bool, what is allowed there; None where the environment has none.

    Raises:
        TypeError: env is neither of the two.
        ValueError: its spaces are of another kind (the message names the wrapper that cures it); or
            it is an `AsyncVectorEnv` whose next-step autoreset cannot be relied on
            (shared_memory=False; seen in Gymnasium 1.4).
    """

    def __init__(self, env: gym.Env | VectorEnv) -> None:
        if not isinstance(env, (gym.Env, VectorEnv)):
            raise TypeError(f"env: gymnasium.Env or VectorEnv expected, got {type(env).__name__}")
        if isinstance(env, gym.Env):
            check_spaces(env.observation_space, env.action_space, "env")
            only = env
            env = SyncVectorEnv([lambda: only], autoreset_mode=AutoresetMode.DISABLED)
        spaces = env.single_observation_space, env.single_action_space
        self.observation_size, self.actions = check_spaces(*spaces, "envs")
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
        self.action_mask: np.ndarray | None = None
        self._restarting = np.zeros(self.num_envs, bool)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Start every session anew; returns the observations to act on, (n, observation_size)."""
        if seed is not None:
            seed = check_whole("seed", seed, 0)
        observations, info = self.env.reset(seed=seed)
        self.observations = np.array(self._checked("observation", observations))
        self.action_mask = None
        if "action_mask" in info:
            self.action_mask = np.ones((self.num_envs, len(self.actions)), bool)
            self.action_mask = self._allowed(info)
        self._restarting[:] = False
        return self.observations

    def step(self, actions: np.ndarray) -> Step:
        """One action in every session, (n,) integers. What is refused reaches no session.

        Raises:
            ValueError: actions of wrong shape, dtype or range, or forbidden by the mask; or the
                environment returns something else than n finite observations and rewards, bools
                for the ends, and masks that allow something wherever a session goes on.
        """
        actions = check_actions("actions", actions, self.num_envs, self.actions, self.action_mask)
        observations, reward, terminated, truncated, info = self.env.step(actions)
        check_array("reward", reward, (self.num_envs,))
        self._checked("observation", observations)
        check_array("terminated", terminated, (self.num_envs,), "b")
        check_array("truncated", truncated, (self.num_envs,), "b")
        ended = terminated | truncated
        valid = ~self._restarting
        following = next_observation = np.array(observations)
        allowed = next_mask = self._allowed(info, terminated)
        if self.mode == AutoresetMode.NEXT_STEP:
            self._restarting = ended
        elif self.mode == AutoresetMode.SAME_STEP and ended.any():
            next_observation, allowed = following.copy(), self._allowed(info)
            for i in np.flatnonzero(ended):
                next_observation[i] = info["final_obs"][i]
            self._checked("final observation", next_observation)
            if allowed is not None:
                final = self._allowed(info.get("final_info", {}), terminated, ended)
                next_mask = np.where(ended[:, None], final, allowed)
        elif ended.any():
            fresh, fresh_info = self.env.reset(options={"reset_mask": ended})
            following = np.array(self._checked("observation", fresh))
            if allowed is not None:
                allowed = np.where(ended[:, None], self._allowed(fresh_info, rows=ended), allowed)
        self.observations, self.action_mask = following, allowed
        ends = np.array(terminated), np.array(truncated)
        return Step(np.array(reward), next_observation, *ends, valid, next_mask, info)

    def _checked(self, name: str, observations: Any) -> np.ndarray:
        return check_array(name, observations, (self.num_envs, self.observation_size))

    def _allowed(
        self,
        info: dict[str, Any],
        terminated: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> Any:
        """The mask that `info` holds, (n, actions) bool, or None where there are none.

        All is allowed outside `rows` and where nothing follows.
        """
        if self.action_mask is None:
            if "action_mask" in info:
                raise ValueError("info of reset: action_mask expected there too, as after a step")
            return None
        asked = np.ones(self.num_envs, bool) if rows is None else rows
        if terminated is not None:
            asked = asked & ~terminated
        has = info.get("_action_mask", np.full(self.num_envs, "action_mask" in info))
        if (asked & ~has).any():
            session = int(np.argmax(asked & ~has))
            raise ValueError(f"info: no action_mask of session {session}, which has had one so far")
        if not asked.any():
            return np.ones_like(self.action_mask)
        return check_mask("action_mask", info["action_mask"], self.action_mask.shape, asked)
