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

Mask = np.ndarray | None  # (n, actions) bool: what is allowed; None: everything is


class Step(NamedTuple):
    """One step of n sessions. Rows where `valid` is False did not happen: only a reset did."""

    reward: np.ndarray  # (n,) float64
    next_observation: np.ndarray  # (n, observation_size): the true successor, never the reset one
    terminated: np.ndarray  # (n,) bool
    truncated: np.ndarray  # (n,) bool
    valid: np.ndarray  # (n,) bool
    next_action_mask: Mask = None  # (n, actions): of `next_observation`
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
        if isinstance(env, gym.Env):  # checked first, for another wrapper is the cure
            check_spaces(env.observation_space, env.action_space, "env")
            only = env  # the function below must not see the vector that `env` becomes
            env = SyncVectorEnv([lambda: only], autoreset_mode=AutoresetMode.DISABLED)
        spaces = env.single_observation_space, env.single_action_space
        self.observation_size, self.actions = check_spaces(*spaces, "envs")
        self.env: VectorEnv = env
        inner = env.unwrapped
        # The vector's own mode counts, where it has one: below 1.4, all of Gymnasium's vectors of
        # one environment class share their metadata, which names the mode of the one made last.
        by_metadata = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.mode = AutoresetMode(getattr(inner, "autoreset_mode", by_metadata))
        next_step = self.mode == AutoresetMode.NEXT_STEP
        if next_step and isinstance(inner, AsyncVectorEnv) and not inner.shared_memory:
            raise ValueError(  # its workers take the step after a reset for another reset
                "env: AsyncVectorEnv(shared_memory=False) with next-step autoreset loses a session "
                "where a reset follows an end; shared_memory=True or another mode expected"
            )
        self.num_envs = env.num_envs
        self.observations = np.empty(0)
        self.action_mask: Mask = None
        self._masked = False  # does the environment give masks?
        self._restarting = np.zeros(self.num_envs, bool)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Start every session anew; returns the observations to act on, (n, observation_size)."""
        if seed is not None:
            seed = check_whole("seed", seed, 0)
        observations, info = self.env.reset(seed=seed)
        self.observations = np.array(self._checked("observation", observations))
        self._masked = "action_mask" in info
        self.action_mask = self._mask_in(info, np.ones(self.num_envs, bool))
        self._restarting[:] = False
        return self.observations

    def step(self, actions: np.ndarray) -> Step:
        """One action in every session, (n,) integers. What is refused reaches no session.

        Raises:
            ValueError: actions of wrong shape, dtype or range, or forbidden by the mask; or the
                environment returns something else than n finite observations and rewards, bools
                for the ends, and masks that allow something wherever a session has not terminated.
        """
        actions = check_actions("actions", actions, self.num_envs, self.actions, self.action_mask)
        observations, reward, terminated, truncated, info = self.env.step(actions)
        reward = np.array(check_array("reward", reward, (self.num_envs,)), np.float64)
        successor = np.array(self._checked("observation", observations))
        terminated = np.array(check_array("terminated", terminated, (self.num_envs,), "b"))
        truncated = np.array(check_array("truncated", truncated, (self.num_envs,), "b"))
        ended, valid = terminated | truncated, ~self._restarting
        if self.mode == AutoresetMode.SAME_STEP and ended.any():
            self.observations = successor.copy()
            self.action_mask = self._mask_in(info, np.ones(self.num_envs, bool))
            if "final_obs" not in info:
                raise ValueError("info: final_obs expected where a session has ended")
            for i in np.flatnonzero(ended):
                successor[i] = info["final_obs"][i]
            self._checked("final observation", successor)
            final = self._mask_in(info.get("final_info", {}), ended & ~terminated)
            mask = _joined(ended, final, self.action_mask)
        else:
            mask = self._mask_in(info, ~terminated)
            self.observations, self.action_mask = successor.copy(), mask
            if self.mode == AutoresetMode.DISABLED and ended.any():
                fresh, fresh_info = self.env.reset(options={"reset_mask": ended})
                self.observations = np.array(self._checked("observation", fresh))
                self.action_mask = _joined(ended, self._mask_in(fresh_info, ended), mask)
            self._restarting = ended & (self.mode == AutoresetMode.NEXT_STEP)
        return Step(reward, successor, terminated, truncated, valid, mask, info)

    def _checked(self, name: str, observations: Any) -> np.ndarray:
        return check_array(name, observations, (self.num_envs, self.observation_size))

    def _mask_in(self, info: dict[str, Any], asked: np.ndarray) -> Mask:
        """What `info` says is allowed, (n, actions) bool; None where there are no masks.

        It must speak of the sessions in `asked`, (n,) bool; in the others all is allowed.
        """
        if not self._masked:
            if "action_mask" in info:
                raise ValueError("info of reset: action_mask expected there too, as after a step")
            return None
        # By `_action_mask` Gymnasium's vectors say which sessions have given one.
        has = info.get("_action_mask", np.full(self.num_envs, "action_mask" in info))
        if (asked & ~has).any():
            session = int(np.argmax(asked & ~has))
            raise ValueError(f"info: no action_mask of session {session}, which has had one so far")
        shape = self.num_envs, len(self.actions)
        if not asked.any():
            return np.ones(shape, bool)
        return check_mask("action_mask", info["action_mask"], shape, asked)


def _joined(ended: np.ndarray, theirs: Any, others: Any) -> Mask:
    """Masks of the sessions that have ended, and of the others; None where there are none."""
    return None if theirs is None else np.where(ended[:, None], theirs, others)
