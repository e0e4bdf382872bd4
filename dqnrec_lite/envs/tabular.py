"""Finite Markov decision processes as arrays: exact solutions, and the same thing as sessions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from dqnrec_lite._checks import check_array, check_integers, check_kind, check_number, check_whole
from dqnrec_lite.envs.lanes import Lanes


class Tabular(Protocol):
    """Anything with transition probabilities P (S, A, S) and mean rewards R (S, A)."""

    @property
    def P(self) -> np.ndarray: ...

    @property
    def R(self) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class FiniteMDP:
    """A finite Markov decision process with events, as arrays (float64).

    Attributes:
        joint: (S, A, E, S) probability of event e and next state s', given s and a.
        event_reward: (S, A, E) reward of an event.
        start: (S,) probability of the first state.
        terminal: (S,) bool; such a state loops to itself and pays nothing.
        observations: (S, observation_size) float32, what an agent sees in each state.

    Raises:
        ValueError: probabilities are negative or do not sum to 1, shapes disagree, a number is not
            finite, or a terminal state moves on or pays.
    """

    joint: np.ndarray
    event_reward: np.ndarray
    start: np.ndarray
    terminal: np.ndarray
    observations: np.ndarray

    def __post_init__(self) -> None:
        paid = check_array("event_reward", self.event_reward, ("states", "actions", "events"))
        states = paid.shape[0]
        if 0 in paid.shape:
            raise ValueError(f"event_reward: no length of 0 expected, got {paid.shape}")
        shapes: dict[str, tuple[tuple[int | str, ...], str]] = {
            "event_reward": (paid.shape, "fiub"),
            "joint": ((*paid.shape, states), "fiub"),
            "start": ((states,), "fiub"),
            "terminal": ((states,), "b"),
            "observations": ((states, "observation_size"), "fiub"),
        }
        for name, (shape, kinds) in shapes.items():
            array = check_array(name, getattr(self, name), shape, kinds)
            object.__setattr__(self, name, array)  # lists become arrays
        for name, array, axes in [("joint", self.joint, (2, 3)), ("start", self.start, (0,))]:
            if (array < 0).any() or not np.allclose(array.sum(axis=axes), 1.0, atol=1e-12):
                raise ValueError(f"{name}: probabilities that sum to 1 expected")
        ends = np.flatnonzero(self.terminal)
        stays = np.allclose(self.joint.sum(axis=2)[ends, :, ends], 1.0, rtol=0.0, atol=1e-9)
        if not stays or (self.joint.sum(axis=3) * self.event_reward)[ends].any():
            raise ValueError("terminal: such states must loop to themselves and pay nothing")

    @cached_property
    def P(self) -> np.ndarray:
        """(S, A, S) probability of the next state."""
        return self.joint.sum(axis=2)

    @cached_property
    def reachable(self) -> np.ndarray:
        """(S,) bool, the states, terminal ones aside, that some policy can visit."""
        found = self.start > 0
        while True:
            more = found | (found @ self.P.sum(axis=1) > 0)
            if (more == found).all():
                return found & ~self.terminal
            found = more

    @cached_property
    def R(self) -> np.ndarray:
        """(S, A) mean reward."""
        return (self.joint.sum(axis=3) * self.event_reward).sum(axis=2)


def value_iteration(mdp: Tabular, discount: float, tolerance: float = 1e-10) -> np.ndarray:
    """Optimal action values q*, (S, A) float64 (Sutton & Barto, section 4.4, on q).

    Sweeps until the right side of the Bellman equation, computed from the q that is returned,
    differs from q by at most `tolerance` in every entry. (A sweep shrinks differences by the
    discount at least, so the last sweep's change tells without another sweep.)

    Args:
        mdp: the tables.
        discount: gamma, in [0, 1].
        tolerance: of the equation, in units of reward; 0 asks for a fixed point in float64.

    Raises:
        TypeError: mdp has no tables.
        ValueError: discount lies outside [0, 1], or 100,000 sweeps were not enough (with
            discount 1 a policy may never end).
    """
    _check_tables(mdp, discount)
    check_number("tolerance", tolerance, 0.0)
    q = np.zeros_like(mdp.R)
    for _ in range(100_000):
        updated = mdp.R + discount * mdp.P @ q.max(axis=1)
        residual = np.abs(updated - q).max()
        q = updated
        if discount * residual <= tolerance:
            return q
    raise ValueError(f"value_iteration: residual {residual} after 100,000 sweeps at {discount=}")


def policy_value(mdp: Tabular, policy: np.ndarray, discount: float) -> np.ndarray:
    """Exact state values of a policy by linear solve, (S,) float64 (Sutton & Barto, eq. 4.4).

    Args:
        mdp: the tables.
        policy: (S,) integers, an action for each state; or (S, A) probabilities.
        discount: gamma in [0, 1]. With 1 the policy must end with certainty.

    Raises:
        ValueError: discount outside [0, 1], or a policy of wrong shape, range or sum.
    """
    _check_tables(mdp, discount)
    states, actions = mdp.R.shape
    policy = check_array("policy", policy)
    if policy.shape == (states,) and policy.dtype.kind in "iu":
        policy = np.eye(actions)[check_integers("policy", policy, (states,), actions)]
    rows = policy.shape == (states, actions) and (policy >= 0).all()
    if not rows or not np.allclose(policy.sum(axis=1), 1.0):
        allowed = f"({states},) integers or ({states}, {actions}) rows of sum 1"
        raise ValueError(f"policy: {allowed} expected, got shape {policy.shape}")
    transition = np.einsum("sa,sat->st", policy, mdp.P)
    reward = (policy * mdp.R).sum(axis=1)
    # An absorbing state that pays nothing is worth nothing, with discount 1 too.
    live = np.flatnonzero((np.diag(transition) < 1.0 - 1e-15) | (reward != 0.0))
    value = np.zeros(states)
    system = np.eye(len(live)) - discount * transition[np.ix_(live, live)]
    try:
        value[live] = np.linalg.solve(system, reward[live])
    except np.linalg.LinAlgError as error:
        raise ValueError(
            f"policy: it need not end, so at {discount=} it has no value ({error})"
        ) from error
    return value


def _check_tables(mdp: Tabular, discount: float) -> None:
    check_number("discount", discount, 0.0, 1.0)
    if not hasattr(mdp, "P") or not hasattr(mdp, "R"):
        raise TypeError(f"mdp: tables P and R expected, got {type(mdp).__name__}")
    states, actions = check_array("mdp.R", mdp.R, ("states", "actions")).shape
    check_array("mdp.P", mdp.P, (states, actions, states))


class TabularVectorEnv(Lanes):
    """`num_envs` sessions of a `FiniteMDP` side by side.

    `info` holds `state`, the state after the step (of the ended session where one ended), and
    `event`; after `reset` the first `state`.

    Args:
        mdp: the tables.
        num_envs: how many sessions run side by side.
        seed: random seed of first states, events and next states.
        page_limit: pages after which a session is truncated; None: never.

    Attributes:
        state: (num_envs,) int64, the state that each session is in.

    Raises:
        TypeError: mdp is no `FiniteMDP`.
        ValueError: an argument is out of range, or an action is none of the table's.
    """

    def __init__(
        self, mdp: FiniteMDP, num_envs: int = 1, *, seed: int = 0, page_limit: int | None = None
    ) -> None:
        check_kind("mdp", mdp, FiniteMDP)
        super().__init__(num_envs, seed, page_limit)
        self.mdp = mdp
        states, actions = mdp.R.shape
        self._set_spaces(mdp.observations.min(axis=0), mdp.observations.max(axis=0), actions)
        self._cumulative = mdp.joint.reshape(states, actions, -1).cumsum(axis=-1)
        self._cumulative[..., -1] = 1.0
        self._start_cumulative = mdp.start.cumsum()
        self.state = np.zeros(self.num_envs, np.int64)
        self._start_draws(seed)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start all sessions anew; a seed (an int) starts the draws from the beginning."""
        observations, _ = super().reset(seed=seed, options=options)
        return observations, {"state": self.state.copy()}

    def _start_draws(self, seed: Any) -> None:
        self._rng = np.random.default_rng(check_whole("seed", seed, 0))

    def _begin(self, lanes: np.ndarray) -> None:
        draws = self._rng.random(len(lanes))
        first = np.searchsorted(self._start_cumulative, draws, side="right")
        self.state[lanes] = np.minimum(first, len(self.mdp.start) - 1)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        cumulative = self._cumulative[self.state, actions]
        cell = (cumulative <= self._rng.random(self.num_envs)[:, None]).sum(axis=1)
        event, successor = np.divmod(cell, len(self.mdp.start))
        reward = self.mdp.event_reward[self.state, actions, event]
        self.state = successor
        info = {"event": event, "state": successor.copy()}
        return reward, self.mdp.terminal[successor], info

    def _observe(self) -> np.ndarray:
        return self.mdp.observations[self.state]
