"""PocketShop: a shop of 81 states, small enough to solve exactly. The book's ruler.

One customer, one item a page. The state is what moves the customer, all of it visible here:

- *interest*: none, or the category that the customer is browsing (tea, books, toys);
- *satisfaction*: 0 to 4;
- *last*: the category shown on the page before (none on the first); the same again is dull.

Each category has a *solid* item and a *bait*. Bait is opened more often and sells without any
interest, once; it costs satisfaction. A solid item sells well to a customer who is interested, and
pleases. An unhappy customer leaves. State 80 is "gone": absorbing, worth nothing. (16 of the other
80 are never reached: nothing was shown before the first page only, and its satisfaction is 3.)

After an ignored page the interest fades (chance 0.3) and satisfaction falls by 1 (chance 0.15, or
0.45 when dull). A view turns the interest to the item's category; a bait viewed costs 1 (chance
0.5). A purchase turns the interest to the next category (chance 0.7, else to none); a solid item
bought raises satisfaction by 1 (chance 0.8), a bait lowers it by 2 (chance 0.9).
"""

from __future__ import annotations

import numpy as np

from dqnrec_lite._checks import check_integers, check_kind, check_whole
from dqnrec_lite.encoding import BUY, IGNORE, VIEW
from dqnrec_lite.envs.lanes import SingleLane
from dqnrec_lite.envs.tabular import FiniteMDP, TabularVectorEnv
from dqnrec_lite.rewards import DEFAULT_WEIGHTS, RewardWeights

CATEGORIES = ("tea", "books", "toys")
KINDS = ("solid", "bait")
ITEMS = tuple(f"{category} {kind}" for category in CATEGORIES for kind in KINDS)
MARGIN = np.tile([1.5, 1.6], len(CATEGORIES))  # euro
NUM_LEVELS, START_LEVEL = 5, 3
START_INTEREST = np.array([0.4, 0.3, 0.2, 0.1])  # none, tea, books, toys
LEAVE = np.array([0.60, 0.35, 0.15, 0.06, 0.03])  # per page, by satisfaction after the event
NUM_STATES = 4 * NUM_LEVELS * 4 + 1
GONE = NUM_STATES - 1


def pocket_state(interest: int, satisfaction: int, last: int) -> int:
    """Number of a state. interest, last: 0 for none, else category + 1; satisfaction: 0 to 4."""
    check_whole("interest", interest, 0, len(CATEGORIES))
    check_whole("satisfaction", satisfaction, 0, NUM_LEVELS - 1)
    check_whole("last", last, 0, len(CATEGORIES))
    return (interest * NUM_LEVELS + satisfaction) * 4 + last


def pocket_parts(states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interest, satisfaction and last of states given by number: the way back from `pocket_state`.

    Args:
        states: integers of any shape.

    Returns:
        Three int64 arrays of that shape.

    Raises:
        ValueError: a number is none of such a state; `GONE` has no parts.
    """
    interest, rest = np.divmod(check_integers("states", states, None, GONE), NUM_LEVELS * 4)
    return interest, *np.divmod(rest, 4)


def pocket_mdp(weights: RewardWeights = DEFAULT_WEIGHTS) -> FiniteMDP:
    """The tables of PocketShop, from the rules in the module's text."""
    check_kind("weights", weights, RewardWeights)
    joint = np.zeros((NUM_STATES, len(ITEMS), 4, NUM_STATES))
    for interest in range(4):
        for level in range(NUM_LEVELS):
            for last in range(4):
                for item in range(len(ITEMS)):
                    row = joint[pocket_state(interest, level, last), item]
                    _fill_row(row, interest, level, last, item)
    joint[GONE, :, IGNORE, GONE] = 1.0
    event = np.arange(4)
    paid = weights.of_events(event[None, :], MARGIN[:, None])
    event_reward = np.broadcast_to(paid, (NUM_STATES, *paid.shape)).copy()
    event_reward[GONE] = 0.0
    start = np.zeros(NUM_STATES)
    for interest, share in enumerate(START_INTEREST):
        start[pocket_state(interest, START_LEVEL, 0)] = share
    terminal = np.arange(NUM_STATES) == GONE
    return FiniteMDP(joint, event_reward, start, terminal, _observations())


def _fill_row(row: np.ndarray, interest: int, level: int, last: int, item: int) -> None:
    """Probabilities of event and next state for one state and item, into row (E, S)."""
    category, bait = divmod(item, 2)
    keen, dull = interest == category + 1, last == category + 1
    view = (0.75 if keen else 0.5 if bait else 0.35) * (0.6 if dull else 1.0)
    buy = view * ((0.6 if keen else 0.3) if bait else (0.6 if keen else 0.1))
    following = (category + 1) % 3 + 1
    change, moved = (-2, 0.9) if bait else (1, 0.8)
    _spread(row[BUY], buy, [(following, 0.7), (0, 0.3)], level, change, moved, category)
    moved = 0.5 if bait else 0.0
    _spread(row[VIEW], view - buy, [(category + 1, 1.0)], level, -1, moved, category)
    moved = 0.45 if dull else 0.15
    _spread(row[IGNORE], 1 - view, [(interest, 0.7), (0, 0.3)], level, -1, moved, category)


def _spread(
    row: np.ndarray,
    chance: float,
    interests: list[tuple[int, float]],
    level: int,
    change: int,
    moved: float,
    category: int,
) -> None:
    """Add `chance` of one event to the next states it can lead to, leaving included."""
    for interest, share in interests:
        for shift, share_of_shift in ((change, moved), (0, 1.0 - moved)):
            next_level = min(max(level + shift, 0), NUM_LEVELS - 1)
            part = chance * share * share_of_shift
            stays = pocket_state(interest, next_level, category + 1)
            row[stays] += part * (1.0 - LEAVE[next_level])
            row[GONE] += part * LEAVE[next_level]


def _observations() -> np.ndarray:
    """(81, 13) float32: one-hot interest (4), satisfaction (5) and last (4); zeros when gone."""
    rows = np.zeros((NUM_STATES, 13), np.float32)
    interest, level, last = pocket_parts(np.arange(GONE))
    for offset, part in ((0, interest), (4, level), (9, last)):
        rows[np.arange(GONE), offset + part] = 1.0
    return rows


class PocketShop(SingleLane):
    """PocketShop as tables and as a Gymnasium environment with one session.

    Args:
        seed: random seed of first states, events and next states.
        weights: what the shop pays for; the default is the margin of a purchase.
        page_limit: pages after which a session is truncated; None: never.

    Attributes:
        mdp: the `FiniteMDP`; its `P` (81, 6, 81) and `R` (81, 6) are attributes here too.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        weights: RewardWeights = DEFAULT_WEIGHTS,
        page_limit: int | None = None,
        render_mode: None = None,
    ) -> None:
        self.mdp = pocket_mdp(weights)
        self.P, self.R = self.mdp.P, self.mdp.R
        lane = TabularVectorEnv(self.mdp, 1, seed=seed, page_limit=page_limit)
        super().__init__(lane, render_mode)

    def vector(
        self, num_envs: int, *, seed: int | None = None, page_limit: int | None = None
    ) -> TabularVectorEnv:
        """The same shop with `num_envs` sessions side by side.

        Args:
            num_envs: how many.
            seed: as for the class; None: this shop's own.
            page_limit: as for the class; None: this shop's own.
        """
        seed = self.seed if seed is None else seed
        page_limit = self.page_limit if page_limit is None else page_limit
        return TabularVectorEnv(self.mdp, num_envs, seed=seed, page_limit=page_limit)


def pocket_vector_env(
    num_envs: int = 1,
    *,
    seed: int = 0,
    weights: RewardWeights = DEFAULT_WEIGHTS,
    page_limit: int | None = None,
) -> TabularVectorEnv:
    """PocketShop with `num_envs` sessions side by side, as `gymnasium.make_vec` makes it."""
    return TabularVectorEnv(pocket_mdp(weights), num_envs, seed=seed, page_limit=page_limit)
