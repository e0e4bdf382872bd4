"""Settings of a DQN, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from dqnrec_lite._checks import check_number, check_sizes, check_whole

# Allowed range of each number in a DQNConfig: kind, smallest, largest (both allowed).
_TINY, _HUGE = 1e-12, 2**53
_RANGES: dict[str, tuple[type, Any, Any]] = {
    "seed": (Integral, 0, _HUGE),
    "discount": (Real, 0.0, 1.0),
    "learning_rate": (Real, _TINY, 1.0),
    "learning_rate_end": (Real, 0.0, 1.0),
    "batch_size": (Integral, 1, _HUGE),
    "buffer_size": (Integral, 1, _HUGE),
    "learning_starts": (Integral, 1, _HUGE),
    "updates_per_transition": (Real, 0.0, 1000.0),
    "target_sync_every": (Integral, 1, _HUGE),
    "target_tau": (Real, _TINY, 1.0),
    "epsilon_start": (Real, 0.0, 1.0),
    "epsilon_end": (Real, 0.0, 1.0),
    "epsilon_fraction": (Real, 0.0, 1.0),
    "n_step": (Integral, 1, 1000),
}


@dataclass(frozen=True)
class DQNConfig:
    """Settings of a DQN. Impossible ones are refused when it is made.

    Attributes:
        seed: of the initial weights, exploration, sampling and the environment.
        discount: gamma in [0, 1]; 0 makes the agent myopic.
        learning_rate: Adam's step size at the start of a training call.
        learning_rate_end: the step size falls linearly to this at its end; None: it stays.
        hidden_sizes: units of each hidden layer.
        batch_size: transitions in one gradient step.
        buffer_size: transitions the replay buffer holds.
        learning_starts: transitions stored before the first gradient step.
        updates_per_transition: gradient steps per stored transition, e.g. 1.0 or 0.1.
        target_sync_every: gradient steps between two hard copies into the target network.
        target_tau: None for hard copies; else the target moves by this share each gradient step.
        epsilon_start, epsilon_end: exploration at the start, and from `epsilon_fraction` on.
        epsilon_fraction: share of a training call over which epsilon falls linearly.
        loss: "huber" (delta 1) or "mse", on the chosen action's value. Huber's values can run away
            where TD errors stay above 1, for it then counts transitions (chapter 6).
        double: Double DQN's target (arXiv:1509.06461).
        dueling: dueling network (arXiv:1511.06581).
        n_step: rewards summed before bootstrapping (Sutton & Barto, section 7.1).

    Raises:
        ValueError: names the field, its value and what is allowed.
    """

    seed: int = 0
    discount: float = 0.97
    learning_rate: float = 1e-3
    learning_rate_end: float | None = 2e-5
    hidden_sizes: tuple[int, ...] = (128, 128)
    batch_size: int = 128
    buffer_size: int = 100_000
    learning_starts: int = 1_000
    updates_per_transition: float = 0.05
    target_sync_every: int = 500
    target_tau: float | None = None
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_fraction: float = 0.5
    loss: str = "mse"
    double: bool = True
    dueling: bool = False
    n_step: int = 1

    def __post_init__(self) -> None:
        for name, (kind, low, high) in _RANGES.items():
            value = getattr(self, name)
            if name in ("target_tau", "learning_rate_end") and value is None:
                continue
            check = check_whole if kind is Integral else check_number
            object.__setattr__(self, name, check(f"DQNConfig.{name}", value, low, high))
        sizes = check_sizes("DQNConfig.hidden_sizes", self.hidden_sizes)
        object.__setattr__(self, "hidden_sizes", sizes)
        if not isinstance(self.loss, str) or self.loss not in ("huber", "mse"):
            raise ValueError(f'DQNConfig.loss={self.loss!r}: "huber" or "mse" expected')
        for name in ("double", "dueling"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"DQNConfig.{name}={getattr(self, name)!r}: True or False expected"
                )
        for name in ("batch_size", "learning_starts"):
            if getattr(self, name) > self.buffer_size:
                raise ValueError(
                    f"DQNConfig.{name}={getattr(self, name)}: at most buffer_size="
                    f"{self.buffer_size} expected"
                )
