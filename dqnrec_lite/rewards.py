"""Events -> reward, and potential-based shaping.

What the shop pays its agent for is a choice, and the agent will find every gap in it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from dqnrec_lite._checks import (
    check_array,
    check_flags,
    check_integers,
    check_number,
    check_shapes,
)
from dqnrec_lite.encoding import BUY, CART, EVENTS, VIEW


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
            check_number(f"RewardWeights.{field.name}", getattr(self, field.name))

    def of_events(self, events: np.ndarray, margins: np.ndarray) -> np.ndarray:
        """Reward of each page.

        Args:
            events: index into `encoding.EVENTS`, any shape of integers.
            margins: margin of the item shown, in euro, same shape, or one that NumPy broadcasts.

        Returns:
            Reward, same shape, float64.

        Raises:
            ValueError: an event is unknown, a margin not finite, or the shapes do not fit.
        """
        events = check_integers("events", events, None, len(EVENTS))
        margins = check_array("margins", margins)
        check_shapes(events=events, margins=margins)
        return (
            self.view * (events >= VIEW)
            + self.cart * (events >= CART)
            + (self.purchase + self.margin * margins) * (events == BUY)
        )


DEFAULT_WEIGHTS = RewardWeights()  # the margin of a purchase, and nothing else


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
        reward, potential, next_potential: same shape, or shapes that NumPy broadcasts; floats.
        terminated: the same, bool: the session has really ended at s'.
        discount: gamma, in [0, 1].

    Returns:
        Shaped reward, same shape.

    Raises:
        ValueError: the shapes do not fit, a number is not finite, or discount lies outside [0, 1].
    """
    check_number("discount", discount, 0.0, 1.0)
    check_flags("terminated", terminated)
    arrays = {"reward": reward, "potential": potential, "next_potential": next_potential}
    for name, array in arrays.items():
        check_array(name, array)
    check_shapes(**arrays, terminated=terminated)
    return reward + discount * np.where(terminated, 0.0, next_potential) - potential
