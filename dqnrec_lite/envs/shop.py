"""Shop: the book's world. One item a page, and a customer who comes back only while it is worth it.

A session is one customer's visit. On each page the shop shows one item; the customer ignores it,
views it, puts it in the cart or buys it, and then may leave. Inside the customer, never seen by the
shop: a *taste* (a favourite and a second category, thrift), *needs* (one bit a category) and
*satisfaction* (0 to 6). Seen by both: the categories of the last two pages, which tire.

Every random draw is a hash of (seed, session, page, purpose). So single and vectorised views give
the same sessions, and two policies meet the same customers with the same luck: common random
numbers, the cheapest way to a fair comparison (chapter 10).

Within a type the customer is a finite MDP; `dqnrec_lite.envs.oracle` solves it exactly.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dqnrec_lite._checks import MANY, check_integers, check_whole
from dqnrec_lite.encoding import BUY, CART, EVENTS, IGNORE, VIEW, HistoryEncoder
from dqnrec_lite.envs.lanes import SingleSession
from dqnrec_lite.rewards import RewardWeights, weights_or_default

CATEGORIES = ("cameras", "travel", "books", "audio")
KINDS = ("value", "premium", "bait")
NUM_ITEMS = len(CATEGORIES) * len(KINDS)
ITEMS = tuple(f"{category} {kind}" for category in CATEGORIES for kind in KINDS)
COMPLEMENT = np.array([1, 0, 3, 2])  # buying a camera makes one want to travel, and so on round
MARGIN = np.tile([1.0, 2.5, 1.2], len(CATEGORIES))  # euro per item
PAGE_LIMIT = 40

# A type is (favourite, second favourite, thrifty?), in this order: 4 * 3 * 2 = 24 of them.
TYPES = np.array([(f, s, t) for f in range(4) for s in range(4) if s != f for t in range(2)])
NUM_TYPES, NUM_LEVELS, START_LEVEL = len(TYPES), 7, 4
_POPULAR = np.array([0.34, 0.28, 0.22, 0.16])
TYPE_SHARE = _POPULAR[TYPES[:, 0]] * _POPULAR[TYPES[:, 1]] / (1 - _POPULAR[TYPES[:, 0]]) / 2
NEED_AT_START, NEED_AT_START_FAVOURITE = 0.1, 0.7
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
        (24 types, 2 needed, 3 tired, 7 satisfaction, 12 items, 3) float64. `needed` is the need bit
        of the item's category; `tired` counts how often that category stood on the last two pages.
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
_FUNNEL_COLUMNS = [np.ascontiguousarray(FUNNEL[..., k]).reshape(-1) for k in range(3)]


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


def _uniforms(session_key: np.ndarray, page: np.ndarray) -> np.ndarray:
    """Six uniform numbers in [0, 1) for each session at its page: (6, n) float64."""
    key = session_key + _GOLDEN * (page.astype(np.uint64) + np.uint64(1))
    return (_mix(key + _PURPOSES) >> np.uint64(11)) * 2.0**-53


class ShopVectorEnv(VectorEnv):
    """`num_envs` sessions side by side, each started anew in the step in which it ends.

    Observation: `encoding.HistoryEncoder`'s vector, (num_envs, 45) float32. Action: the item to
    show, (num_envs,) integers in [0, 12). Reward: `RewardWeights.of_events`, by default the margin
    of a purchase in euro. Terminated: the customer left. Truncated: the page limit was reached.
    `info` holds `event` (index into `EVENTS`) and, in Gymnasium's same-step autoreset form,
    `final_obs` with its mask `_final_obs`.

    Args:
        num_envs: how many sessions run side by side.
        seed: of the customers and their luck; session streams of different seeds do not overlap.
        weights: what the shop pays for.
        page_limit: pages after which a session is truncated.

    Raises:
        ValueError: an argument is out of range, or an action is none of the 12 items.
    """

    metadata: dict[str, Any] = {
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        seed: int = 0,
        weights: RewardWeights | None = None,
        page_limit: int = PAGE_LIMIT,
        render_mode: None = None,
    ) -> None:
        self.num_envs = num_envs = check_whole("num_envs", num_envs, 1, MANY)
        self.page_limit = page_limit = check_whole("page_limit", page_limit, 1, MANY)
        self.seed = seed = check_whole("seed", seed, 0)
        self.render_mode = render_mode
        self.weights = weights_or_default(weights)
        self.encoder = HistoryEncoder(num_envs, len(CATEGORIES), len(KINDS), page_limit)
        high = np.full(self.encoder.size, max(10.0, page_limit / 4), np.float32)
        self.single_observation_space = gym.spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        self.single_action_space = gym.spaces.Discrete(NUM_ITEMS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._payout = np.stack(
            [self.weights.of_events(np.full(NUM_ITEMS, e), MARGIN) for e in range(len(EVENTS))]
        ).reshape(-1)
        self._seeded([seed] * num_envs, np.arange(num_envs))

    def _seeded(self, seeds: list[int], lanes: np.ndarray) -> None:
        words = [np.random.SeedSequence(s).generate_state(1, np.uint64)[0] for s in seeds]
        self._lane_key = _mix(np.array(words, np.uint64) + _GOLDEN * lanes.astype(np.uint64))
        self._session = np.full(self.num_envs, -1)
        zeros = np.zeros((5, self.num_envs), np.int64)
        self.customer_type, self.needs, self.satisfaction, self.page = zeros[:4]
        self.satisfaction_after = zeros[4]  # of the last page, before new customers come
        self.last_shown = np.full((2, self.num_envs), -1)
        self._session_key = np.zeros(self.num_envs, np.uint64)

    def _start(self, lanes: np.ndarray) -> None:
        """A new customer in each of `lanes`."""
        self._session[lanes] += 1
        key = _mix(self._lane_key[lanes] + _GOLDEN * self._session[lanes].astype(np.uint64))
        self._session_key[lanes] = key
        draws = _uniforms(key, np.full(len(key), -1))
        kind = np.searchsorted(np.cumsum(TYPE_SHARE)[:-1], draws[0], side="right")
        chance = np.where(TYPES[kind, :1] == np.arange(4), NEED_AT_START_FAVOURITE, NEED_AT_START)
        self.customer_type[lanes] = kind
        self.needs[lanes] = ((chance > draws[1:5].T) << np.arange(4)).sum(axis=1)
        self.satisfaction[lanes] = START_LEVEL
        taste = TYPES[kind, :2]
        entry = np.where(draws[5] < ENTRY[0], taste[:, 0], taste[:, 1])
        anywhere = draws[5] >= ENTRY[0] + ENTRY[1]
        entry = np.where(anywhere, (draws[5] * 4096.0).astype(np.int64) % 4, entry)
        self.page[lanes] = 0
        self.last_shown[:, lanes] = -1
        self.encoder.start(lanes, entry)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """New customers everywhere. A seed starts its stream of sessions from the beginning.

        Args:
            seed: None goes on with the stream. An int seeds all sessions; a list, one each, makes
                session stream `i` that of the single environment with seed `seed[i]`.
            options: not used.
        """
        if seed is not None:
            given: Any = seed.tolist() if isinstance(seed, np.ndarray) else seed
            own = isinstance(given, (list, tuple))
            seeds = [check_whole("seed", s, 0) for s in (given if own else [given] * self.num_envs)]
            if len(seeds) != self.num_envs:
                raise ValueError(f"seed: a list of {self.num_envs} expected, got {len(seeds)}")
            self._seeded(seeds, np.arange(self.num_envs) * (not own))
        self._start(np.arange(self.num_envs))
        return self.encoder.vectors.copy(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Show one item to every customer. See the class for what comes back."""
        items = check_integers("actions", actions, (self.num_envs,), NUM_ITEMS)
        draws = _uniforms(self._session_key, self.page)
        category, kind = np.divmod(items, len(KINDS))
        tired = (self.last_shown == category).sum(axis=0)
        needed = self.needs >> category & 1
        cell = self.customer_type * 2 + needed
        cell = ((cell * 3 + tired) * NUM_LEVELS + self.satisfaction) * NUM_ITEMS + items
        view, cart, buy = (column[cell] for column in _FUNNEL_COLUMNS)
        events = (draws[0] < view).astype(np.int64) + (draws[0] < cart) + (draws[0] < buy)
        moved = draws[1] < CHANCE.reshape(-1)[(events * 3 + kind) * 3 + tired]
        change = CHANGE.reshape(-1)[events * 3 + kind] * moved
        self.satisfaction = np.clip(self.satisfaction + change, 0, NUM_LEVELS - 1)
        self.satisfaction_after = self.satisfaction.copy()
        bought = events == BUY
        self.needs &= ~(bought << category)
        self.needs |= (bought & (draws[2] < NEED_OF_COMPLEMENT)) << COMPLEMENT[category]
        self.needs |= (draws[3] < NEED_ARISES) << TYPES[self.customer_type, 0]
        terminated = draws[4] < LEAVE[self.satisfaction]
        self.page += 1
        truncated = ~terminated & (self.page >= self.page_limit)
        self.last_shown[1] = self.last_shown[0]
        self.last_shown[0] = category
        self.encoder.update(items, events)
        rewards = self._payout[events * NUM_ITEMS + items]
        info: dict[str, Any] = {"event": events}
        ended = np.flatnonzero(terminated | truncated)
        if ended.size:
            info["final_obs"] = self.encoder.vectors.copy()
            info["_final_obs"] = terminated | truncated
            self._start(ended)
        return self.encoder.vectors.copy(), rewards, terminated, truncated, info


class ShopEnv(SingleSession):
    """One session at a time: the world of `ShopVectorEnv`, and its arguments, less `num_envs`."""

    def __init__(
        self, seed: int = 0, weights: RewardWeights | None = None, page_limit: int = PAGE_LIMIT,
        render_mode: None = None,
    ) -> None:  # fmt: skip
        super().__init__(ShopVectorEnv(1, seed, weights, page_limit), render_mode)


def make_shop(
    num_envs: int = 64,
    seed: int = 0,
    weights: RewardWeights | None = None,
    page_limit: int = PAGE_LIMIT,
) -> ShopVectorEnv:
    """The Shop with `num_envs` customers side by side. Arguments as for `ShopVectorEnv`."""
    return ShopVectorEnv(num_envs, seed, weights, page_limit)
