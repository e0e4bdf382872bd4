"""Settings of a DQN, checked when they are made: the first file of the agent."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from dqnrec_lite._checks import check_number, check_sizes, check_whole

_HUGE = 2**53  # the largest whole number that a JSON file gives back in every language


def whole(default: int, low: int, high: int = _HUGE) -> Any:
    """A field for whole numbers from low to high, both allowed."""
    return field(default=default, metadata={"check": check_whole, "range": (low, high)})


def number(default: float | None, low: float, high: float, optional: bool = False) -> Any:
    """A field for numbers from low to high, both allowed; None too if it is optional."""
    limits = {"check": check_number, "range": (low, high), "optional": optional}
    return field(default=default, metadata=limits)


@dataclass(frozen=True)
class DQNConfig:
    """Settings of a DQN. Impossible ones are refused when it is made.

    Raises:
        ValueError: names the field, its value and what is allowed.
    """

    seed: int = whole(0, 0)
    """Of the initial weights, exploration, sampling and, in `learn`, the environment."""

    discount: float = number(0.97, 0.0, 1.0)
    """Gamma. With 0 the agent is myopic; with 1 every session must end."""

    learning_rate: float = number(1e-3, 1e-12, 1.0)
    """Adam's step size at the start of a training call."""

    learning_rate_end: float | None = number(2e-5, 0.0, 1.0, optional=True)
    """The step size falls in a line to this at the end of the call; None: it stays. Small steps at
    the end average over more of the noise in the targets."""

    hidden_sizes: tuple[int, ...] = (128, 128)
    """Units of each hidden layer, 1 to 65,536 each."""

    batch_size: int = whole(128, 1)
    """Transitions in one gradient step; at most `buffer_size`."""

    buffer_size: int = whole(100_000, 1)
    """Transitions that the replay buffer holds."""

    learning_starts: int = whole(1_000, 1)
    """Transitions stored before the first gradient step; at most `buffer_size`."""

    updates_per_transition: float = number(0.05, 0.0, 1000.0)
    """Gradient steps per stored transition, e.g. 1.0 or 0.1."""

    target_sync_every: int = whole(500, 1)
    """Gradient steps between two hard copies into the target network."""

    target_tau: float | None = number(None, 1e-12, 1.0, optional=True)
    """None: hard copies. Else the target network moves by this share at each gradient step."""

    epsilon_start: float = number(1.0, 0.0, 1.0)
    """Exploration at the start of a training call."""

    epsilon_end: float = number(0.05, 0.0, 1.0)
    """Exploration from `epsilon_fraction` of the call on."""

    epsilon_fraction: float = number(0.5, 0.0, 1.0)
    """Share of a training call over which epsilon falls in a line."""

    loss: str = "mse"
    """On the chosen action's value: "mse", or "huber" (delta 1), whose values can run away where TD
    errors stay above 1, for it then counts transitions instead of measuring them (chapter 6)."""

    double: bool = True
    """Double DQN's target (van Hasselt, Guez & Silver, arXiv:1509.06461, equation 4)."""

    dueling: bool = False
    """Dueling network (Wang et al., arXiv:1511.06581, equation 9)."""

    n_step: int = whole(1, 1, 1000)
    """Rewards summed before bootstrapping (Sutton & Barto, section 7.1)."""

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, limits = getattr(self, setting.name), setting.metadata
            name = f"DQNConfig.{setting.name}"
            if "check" in limits and not (value is None and limits.get("optional")):
                value = limits["check"](name, value, *limits["range"])
            elif setting.name == "hidden_sizes":
                value = check_sizes(name, value)
            elif setting.name == "loss" and value not in ("mse", "huber"):
                raise ValueError(f'{name}={value!r}: "mse" or "huber" expected')
            elif setting.name in ("double", "dueling") and not isinstance(value, bool):
                raise ValueError(f"{name}={value!r}: True or False expected")
            object.__setattr__(self, setting.name, value)
        for name in ("batch_size", "learning_starts"):
            if getattr(self, name) > self.buffer_size:
                raise ValueError(
                    f"DQNConfig.{name}={getattr(self, name)}: at most buffer_size="
                    f"{self.buffer_size} expected"
                )
