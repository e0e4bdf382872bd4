"""Shop: the book's world. One item a page, and a customer who comes back only while it is worth it.

A session is one customer's visit. On each page the shop shows one item; the customer ignores it,
views it, puts it in the cart or buys it, and then may leave. Inside the customer, never seen by the
shop: a *taste* (a favourite and a second category, thrift), *needs* (or not, in each category) and
*satisfaction* (0 to 6). Seen by both: the categories of the last two pages, which tire.

Every random draw is a hash of (seed, session, page, purpose). So single and vectorised views give
the same sessions, and two policies meet the same customers with the same luck: common random
numbers, the cheapest way to a fair comparison (chapter 11).

Within a type the customer is a finite MDP; `dqnrec_lite.envs.oracle` solves it exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dqnrec_lite._checks import check_kind, check_whole
from dqnrec_lite.encoding import BUY, CART, EVENTS, IGNORE, VIEW, HistoryEncoder
from dqnrec_lite.envs.lanes import Lanes, SingleLane
from dqnrec_lite.rewards import DEFAULT_WEIGHTS, RewardWeights

CATEGORIES = ("cameras", "travel", "books", "audio")
KINDS = ("value", "premium", "bait")
NUM_ITEMS = len(CATEGORIES) * len(KINDS)
ITEMS = tuple(f"{category} {kind}" for category in CATEGORIES for kind in KINDS)
COMPLEMENT = np.array([1, 0, 3, 2])  # cameras go with travel, and books with audio, both ways
MARGIN = np.tile([1.0, 2.5, 1.2], len(CATEGORIES))  # euro per item
PAGE_LIMIT = 40

# A type is (favourite, second favourite, thrifty?), in this order: 4 * 3 * 2 = 24 of them.
TYPES = np.array([(f, s, t) for f in range(4) for s in range(4) if s != f for t in range(2)])
NUM_TYPES, NUM_LEVELS, START_LEVEL = len(TYPES), 7, 4
_POPULAR = np.array([0.34, 0.28, 0.22, 0.16])
TYPE_SHARE = _POPULAR[TYPES[:, 0]] * _POPULAR[TYPES[:, 1]] / (1 - _POPULAR[TYPES[:, 0]]) / 2
_TYPE_ENDS = np.cumsum(TYPE_SHARE)[:-1]  # where each type's share of [0, 1) ends
NEED_AT_START = np.where(TYPES[:, :1] == np.arange(len(CATEGORIES)), 0.7, 0.1)  # (24, 4)
ENTRY = (0.65, 0.2)  # a customer comes in by a page of the favourite, second, or any category
NEED_OF_COMPLEMENT, NEED_ARISES = 0.8, 0.1
LEAVE = np.array([0.60, 0.40, 0.25, 0.15, 0.08, 0.04, 0.02])  # per page, by satisfaction

# What happens to satisfaction after an event: CHANGE[event, kind] with CHANCE[event, kind, tired].
CHANGE = np.array([[-1, -1, -1], [1, 1, -1], [1, 1, -1], [1, 1, -2]])
CHANCE = np.zeros((4, 3, 3))
CHANCE[IGNORE] = [0.25, 0.40, 0.60]  # dull pages tire, repeated ones more
CHANCE[VIEW] = CHANCE[CART] = np.array([[0.25], [0.25], [0.5]])  # bait is seen through
CHANCE[BUY] = np.array([[0.9], [0.9], [0.9]])  # a good thing pleases, bait disappoints


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def funnel_probabilities() -> np.ndarray:
    """Probabilities that a page gets at least a view, at least a cart, a purchase.

    Returns:
        (24 types, 2 needed, 3 tired, 7 satisfaction, 12 items, 3) float64. `needed` is 1 where the
        customer needs the item's category; `tired` counts how often that category stood on the last
        two pages.
    """
    item = np.arange(NUM_ITEMS)
    category, kind = np.divmod(item, len(KINDS))
    favourite, second, thrifty = (column[:, None, None, None, None] for column in TYPES.T)
    taste = np.where(category == favourite, 1.0, np.where(category == second, 0.5, -1.0))
    needed = np.arange(2)[:, None, None, None]
    tired = np.arange(3)[:, None, None]
    trust = (np.arange(NUM_LEVELS)[:, None] - 3.0) / 3.0
    price = np.where(
        thrifty == 1, np.array([0.8, -2.5, 0.2])[kind], np.array([-0.2, 0.5, 0.0])[kind]
    )
    bait = kind == 2
    impulse = bait * (1 - needed)
    view = _sigmoid(-0.6 + 1.8 * taste + 2.0 * needed + 1.2 * bait - 0.8 * tired)
    cart = _sigmoid(-2.5 + 0.4 * taste + 4.0 * needed + 2.5 * impulse + price)
    buy = _sigmoid(-0.3 + 2.0 * needed + 0.8 * bait + 0.8 * trust + price)
    view, cart, buy = np.broadcast_arrays(view, cart, buy)
    return np.stack([view, view * cart, view * cart * buy], axis=-1)


FUNNEL = funnel_probabilities()


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: uint64 -> well-scattered uint64 (Steele et al., OOPSLA 2014)."""
    z = z ^ (z >> np.uint64(30))
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_PURPOSES = np.arange(1, 7, dtype=np.uint64)[:, None] * np.uint64(0xD1342543DE82EF95)


def _uniforms(session_key: np.ndarray, page: np.ndarray, count: int) -> np.ndarray:
    """Up to six uniform numbers in [0, 1) for each session at its page: (count, n) float64."""
    key = session_key + _GOLDEN * (page.astype(np.uint64) + np.uint64(1))
    return (_mix(key + _PURPOSES[:count]) >> np.uint64(11)) * 2.0**-53


class ShopVectorEnv(Lanes):
    """The Shop with `num_envs` customers side by side.

    Observation: `encoding.HistoryEncoder`'s vector, (num_envs, 45) float32. Action: the item to
    show, (num_envs,) integers in [0, 12). Reward: `RewardWeights.of_events`, by default the margin
    of a purchase in euro. Terminated: the customer left. Truncated: the page limit was reached.

    `info` tells of the page just shown, (num_envs,) each: `event` (index into `EVENTS`) and `page`
    (its number, from 0); and for analysis, since no shop sees them, `customer_type` (index into
    `TYPES`) and `satisfaction` (after the event, 0 to 6).

    Args:
        num_envs: how many customers are served side by side.
        seed: of the customers and their luck; session streams of different seeds do not overlap.
        weights: what the shop pays for.
        page_limit: pages after which a session is truncated.

    Attributes:
        customer_type: (num_envs,) int64, index into `TYPES`; hidden, as the next three are.
        needs: (num_envs, 4) bool, by category.
        satisfaction: (num_envs,) int64, 0 to 6.
        last_shown: (2, num_envs) int64, category on the last page and on the one before; -1: none.

    Raises:
        TypeError: weights are no `RewardWeights`.
        ValueError: an argument is out of range, or an action is none of the 12 items.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        seed: int = 0,
        weights: RewardWeights = DEFAULT_WEIGHTS,
        page_limit: int = PAGE_LIMIT,
    ) -> None:
        super().__init__(num_envs, seed, page_limit)
        check_kind("weights", weights, RewardWeights)
        self.weights = weights
        self.encoder = HistoryEncoder(num_envs, len(CATEGORIES), len(KINDS), page_limit)
        high = np.full(self.encoder.size, max(10.0, page_limit / 4), np.float32)
        self._set_spaces(np.zeros_like(high), high, NUM_ITEMS)
        self._payout = weights.of_events(np.arange(len(EVENTS))[:, None], MARGIN)
        self.customer_type, self.satisfaction = np.zeros((2, num_envs), np.int64)
        self.needs = np.zeros((num_envs, len(CATEGORIES)), bool)
        self.last_shown = np.full((2, num_envs), -1)
        self._customer = np.arange(num_envs)
        self._session_key = np.zeros(num_envs, np.uint64)
        self._start_draws(seed)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """New customers everywhere. A seed starts its stream of sessions from the beginning.

        Args:
            seed: None goes on with the stream. An int seeds all sessions; a list, one each, makes
                session stream `i` that of the single environment with seed `seed[i]`.
            options: not used.
        """
        return super().reset(seed=seed, options=options)

    def _start_draws(self, seed: int | list[int]) -> None:
        given: Any = seed.tolist() if isinstance(seed, np.ndarray) else seed
        own = isinstance(given, (list, tuple))
        seeds = [check_whole("seed", s, 0) for s in (given if own else [given] * self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed: a list of {self.num_envs} expected, got {len(seeds)}")
        lanes = np.arange(self.num_envs, dtype=np.uint64) * np.uint64(not own)
        words = [np.random.SeedSequence(s).generate_state(1, np.uint64)[0] for s in seeds]
        self._lane_key = _mix(np.array(words, np.uint64) + _GOLDEN * lanes)
        self._session = np.full(self.num_envs, -1)

    def _begin(self, lanes: np.ndarray) -> None:
        """A new customer in each of `lanes`."""
        self._session[lanes] += 1
        key = _mix(self._lane_key[lanes] + _GOLDEN * self._session[lanes].astype(np.uint64))
        self._session_key[lanes] = key
        draws = _uniforms(key, np.full(len(key), -1), 6)
        kind = np.searchsorted(_TYPE_ENDS, draws[0], side="right")
        self.customer_type[lanes] = kind
        self.needs[lanes] = NEED_AT_START[kind] > draws[1:5].T
        self.satisfaction[lanes] = START_LEVEL
        taste = TYPES[kind, :2]
        entry = np.where(draws[5] < ENTRY[0], taste[:, 0], taste[:, 1])
        anywhere = draws[5] >= ENTRY[0] + ENTRY[1]
        entry = np.where(anywhere, (draws[5] * 4096.0).astype(np.int64) % 4, entry)
        self.last_shown[:, lanes] = -1
        self.encoder.start(lanes, entry)

    def _advance(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Show one item to every customer."""
        draws = _uniforms(self._session_key, self.page, 5)
        category = items // len(KINDS)
        kind = items - len(KINDS) * category
        tired = (self.last_shown == category).sum(axis=0)
        events = self._answer(items, category, tired, draws[0])
        self.satisfaction = self._mood(events, kind, tired, draws[1])
        self.needs = self._needs(events == BUY, category, draws[2], draws[3])
        terminated = draws[4] < LEAVE[self.satisfaction]
        self.last_shown[1] = self.last_shown[0]
        self.last_shown[0] = category
        self.encoder.update(items, events)
        info = {
            "event": events,
            "page": self.page,
            "customer_type": self.customer_type.copy(),
            "satisfaction": self.satisfaction.copy(),
        }
        return self._payout[events, items], terminated, info

    def _answer(
        self, items: np.ndarray, category: np.ndarray, tired: np.ndarray, luck: np.ndarray
    ) -> np.ndarray:
        """The event with which each customer answers the item shown."""
        needed = self.needs[self._customer, category].astype(np.int64)
        cell = self.customer_type, needed, tired, self.satisfaction, items
        row = np.ravel_multi_index(cell, FUNNEL.shape[:-1])  # FUNNEL[cell], in half the time
        view, cart, buy = luck < FUNNEL.reshape(-1, 3).take(row, axis=0).T
        return view.astype(np.int64) + cart + buy

    def _mood(
        self, events: np.ndarray, kind: np.ndarray, tired: np.ndarray, luck: np.ndarray
    ) -> np.ndarray:
        """Satisfaction after the event."""
        moved = luck < CHANCE[events, kind, tired]
        return np.clip(self.satisfaction + CHANGE[events, kind] * moved, 0, NUM_LEVELS - 1)

    def _needs(
        self, bought: np.ndarray, category: np.ndarray, luck: np.ndarray, other_luck: np.ndarray
    ) -> np.ndarray:
        """Needs after the page: a purchase ends one and may raise its complement's."""
        needs = self.needs.copy()
        buyers = np.flatnonzero(bought)
        needs[buyers, category[buyers]] = False
        again = np.flatnonzero(bought & (luck < NEED_OF_COMPLEMENT))
        needs[again, COMPLEMENT[category[again]]] = True
        others = np.flatnonzero(other_luck < NEED_ARISES)
        needs[others, TYPES[self.customer_type[others], 0]] = True
        return needs

    def _observe(self) -> np.ndarray:
        return self.encoder.vectors.copy()


class ShopEnv(SingleLane):
    """One customer at a time: the world of `ShopVectorEnv`, and its arguments, less `num_envs`."""

    def __init__(
        self,
        *,
        seed: int = 0,
        weights: RewardWeights = DEFAULT_WEIGHTS,
        page_limit: int = PAGE_LIMIT,
        render_mode: None = None,
    ) -> None:
        shop = ShopVectorEnv(1, seed=seed, weights=weights, page_limit=page_limit)
        super().__init__(shop, render_mode)


def make_shop(
    num_envs: int = 64,
    *,
    seed: int = 0,
    weights: RewardWeights = DEFAULT_WEIGHTS,
    page_limit: int = PAGE_LIMIT,
) -> ShopVectorEnv:
    """The Shop with `num_envs` customers side by side. Arguments as for `ShopVectorEnv`."""
    return ShopVectorEnv(num_envs, seed=seed, weights=weights, page_limit=page_limit)
