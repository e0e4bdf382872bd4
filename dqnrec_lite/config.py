"""Settings of a DQN, each beside its range and its reason: the first of the agent's nine files."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from dqnrec_lite._checks import check_bool, check_choice, check_number, check_sizes, check_whole

_HUGE = 2**53  # the largest whole number that a JSON file gives back in every language
_TINY = 1e-12  # stands for "above 0"


def setting(default: Any, check: Any, *limits: Any, optional: bool = False) -> Any:
    """A field that `check(name, value, *limits)` refuses or lets pass; None too if optional."""
    told = {"check": check, "limits": limits, "optional": optional}
    return field(default=default, metadata=told)


@dataclass(frozen=True)
class DQNConfig:
    """Settings of a DQN. Impossible ones are refused when it is made.

    Raises:
        ValueError: names the field, its value and what is allowed.
    """

    seed: int = setting(0, check_whole, 0, _HUGE)
    """Of the initial weights, exploration, sampling and, in `learn`, the environment."""

    discount: float = setting(0.97, check_number, 0.0, 1.0)
    """Gamma. With 0 the agent is myopic; with 1 every session must end."""

    learning_rate: float = setting(1.6e-3, check_number, _TINY, 1.0)
    """Adam's step size at the start of a training call."""

    learning_rate_end: float | None = setting(2e-5, check_number, 0.0, 1.0, optional=True)
    """The step size falls in a line to this at the end of the call; None: it stays. With small
    steps the last targets, noisy as they are, move the values less."""

    hidden_sizes: tuple[int, ...] = setting((128, 128), check_sizes)
    """Units of each hidden layer, 1 to 65,536 each."""

    batch_size: int = setting(128, check_whole, 1, _HUGE)
    """Transitions in one gradient step; at most `buffer_size`."""

    buffer_size: int = setting(100_000, check_whole, 1, _HUGE)
    """Transitions that the replay buffer holds."""

    learning_starts: int = setting(1_000, check_whole, 1, _HUGE)
    """Transitions stored before any gradient step is earned; at most `buffer_size`."""

    updates_per_transition: float = setting(0.5, check_number, 0.0, 1000.0)
    """Gradient steps per stored transition. They are made 32 at a time. The Shop, whose
    transitions cost next to nothing, is trained with 0.02."""

    target_sync_every: int | None = setting(None, check_whole, 1, _HUGE, optional=True)
    """Gradient steps between two hard copies into the target network, but for `target_tau`. None:
    a share of the training call, see `sync_every`."""

    target_tau: float | None = setting(None, check_number, _TINY, 1.0, optional=True)
    """None: hard copies. Else the target network moves by this share at each gradient step."""

    epsilon_start: float = setting(1.0, check_number, 0.0, 1.0)
    """Exploration at the start of a training call."""

    epsilon_end: float = setting(0.05, check_number, 0.0, 1.0)
    """Exploration from `epsilon_fraction` of the call on."""

    epsilon_fraction: float = setting(0.1, check_number, 0.0, 1.0)
    """Share of a training call over which epsilon falls in a line."""

    loss: str = setting("mse", check_choice, "mse", "huber")
    """On the chosen action's value: "mse", or "huber" (delta 1), whose values can run away where TD
    errors stay above 1: there all errors weigh the same, large or small (the book, chapter 8)."""

    double: bool = setting(False, check_bool)
    """Double DQN's target (van Hasselt, Guez & Silver, arXiv:1509.06461, equation 4)."""

    dueling: bool = setting(False, check_bool)
    """Dueling network (Wang et al., arXiv:1511.06581, equation 9)."""

    n_step: int = setting(1, check_whole, 1, 1000)
    """Rewards summed before bootstrapping (Sutton & Barto, section 7.1)."""

    prioritised: float | None = setting(None, check_number, 0.0, 1.0, optional=True)
    """None: batches are drawn uniformly. Else alpha of prioritised replay (Schaul et al.,
    arXiv:1511.05952, section 3.3), whose weights are annealed over a training call."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value, told = getattr(self, one.name), one.metadata
            if not (value is None and told["optional"]):
                value = told["check"](f"DQNConfig.{one.name}", value, *told["limits"])
                object.__setattr__(self, one.name, value)
        for name in ("batch_size", "learning_starts"):
            if getattr(self, name) > self.buffer_size:
                raise ValueError(
                    f"DQNConfig.{name}={getattr(self, name)}: at most buffer_size="
                    f"{self.buffer_size} expected"
                )

    def sync_every(self, updates: float) -> int:
        """Gradient steps between two hard copies, in a training call of so many gradient steps.

        A copy hands rewards one step further back, and the discount looks 1 / (1 - discount) steps
        ahead. Unless `target_sync_every` is set, a call makes four times as many copies as that, 40
        at least, but never one within less than 10 gradient steps.
        """
        if self.target_sync_every is not None:
            return self.target_sync_every
        horizon = 1.0 / max(1.0 - self.discount, _TINY)
        return max(10, round(updates / max(40.0, 4.0 * horizon)))
