"""Events -> reward, and potential-based shaping.

What the shop pays its agent for is a choice, and the agent will find every gap in it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from dqnrec_lite.encoding import BUY, CART, VIEW


@dataclass(frozen=True)
class RewardWeights:
    """What one page is worth, in the currency of the margin (euro).

    A purchase is also a view and an addition to the cart, so it earns all three.

    Attributes:
        view: for each page that the customer opens.
        cart: for each item put into the cart.
        purchase: for each item bought, whatever it is.
        margin: multiplies the margin of the item bought. The default weights pay this alone.

    Raises:
        ValueError: a weight is not a finite number.
    """

    view: float = 0.0
    cart: float = 0.0
    purchase: float = 0.0
    margin: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not np.isfinite(value):
                raise ValueError(f"RewardWeights.{field.name}={value!r}: must be a finite number")

    def of_events(self, events: np.ndarray, margins: np.ndarray) -> np.ndarray:
        """Reward of each page.

        Args:
            events: index into `encoding.EVENTS`, any shape of integers.
            margins: margin of the item shown, in euro, same shape.

        Returns:
            Reward, same shape, float64.
        """
        return (
            self.view * (events >= VIEW)
            + self.cart * (events >= CART)
            + (self.purchase + self.margin * margins) * (events == BUY)
        )


def shaped(
    reward: np.ndarray,
    potential: np.ndarray,
    next_potential: np.ndarray,
    terminated: np.ndarray,
    discount: float,
) -> np.ndarray:
    """Reward plus potential-based shaping, gamma phi(s') - phi(s).

    Ng, Harada & Russell (ICML 1999), theorem 1: this leaves the optimal policy unchanged. The
    potential of a terminal state counts as zero, or the theorem fails.

    Args:
        reward, potential, next_potential: same shape, floats.
        terminated: same shape, bool: the session has really ended at s'.
        discount: gamma, in [0, 1].

    Returns:
        Shaped reward, same shape.
    """
    return reward + discount * np.where(terminated, 0.0, next_potential) - potential
