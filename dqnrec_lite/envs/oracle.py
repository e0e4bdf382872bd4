"""The ceiling: what a shop could earn that reads the customer's mind.

The customer of `shop` is, within a type, a finite MDP. The oracle knows the type, the needs and the
satisfaction, and plays optimally to the page limit: backward induction (Sutton & Barto, section
4.1, finite horizon) over 24 types x 5 x 5 last categories x 16 sets of needs x 7 satisfactions
= 67,200 states a page. No policy that sees events only can do better on average.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dqnrec_lite._checks import check_array, check_integers, check_kind, check_number, check_whole
from dqnrec_lite.encoding import BUY, EVENTS
from dqnrec_lite.envs import shop
from dqnrec_lite.rewards import DEFAULT_WEIGHTS, RewardWeights

_BITS = 1 << np.arange(len(shop.CATEGORIES))  # a set of needs as one number, a bit a category
_NEEDS = np.arange(1 << len(shop.CATEGORIES))
_NOTHING = len(shop.CATEGORIES)  # index of "no page yet" among the last categories


def solve_oracle(
    *,
    page_limit: int = shop.PAGE_LIMIT,
    weights: RewardWeights = DEFAULT_WEIGHTS,
    discount: float = 1.0,
) -> tuple[np.ndarray, float]:
    """Best item in every hidden state on every page, and the value of a session, exactly.

    Takes about a second.

    Args:
        page_limit: pages after which a session is cut off.
        weights: what the shop pays for.
        discount: gamma, in [0, 1]; 0 gives the item that sells best at once.

    Returns:
        The best items, (page_limit, 24, 5, 5, 16, 7) int8, by page, type, last category, the one
        before, needs and satisfaction; and the mean (discounted) return of a session.
    """
    items, first = _plan(page_limit, weights, discount)
    return items, float((_start_shares() * first.max(axis=-1)).sum())


def first_page_values(
    *,
    page_limit: int = shop.PAGE_LIMIT,
    weights: RewardWeights = DEFAULT_WEIGHTS,
    discount: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """What each item is worth to a new customer if the oracle takes over on the second page.

    Args:
        page_limit: pages after which a session is cut off.
        weights: what the shop pays for.
        discount: gamma, in [0, 1].

    Returns:
        The share of each entry category with each type and set of needs, (4, 24, 16), of sum 1;
        and the value of a session by type, needs and first item, (24, 16, 12).
    """
    favourite, second = shop.ENTRY
    everyone = np.arange(shop.NUM_TYPES)
    entry = np.full((len(shop.CATEGORIES), shop.NUM_TYPES), (1.0 - favourite - second) / 4)
    entry[shop.TYPES[:, 0], everyone] += favourite
    entry[shop.TYPES[:, 1], everyone] += second
    shares = entry[:, :, np.newaxis] * _start_shares()
    return shares, _plan(page_limit, weights, discount)[1]


def _plan(
    page_limit: int, weights: RewardWeights, discount: float
) -> tuple[np.ndarray, np.ndarray]:
    """The best items, as `solve_oracle` returns them, and q of a new customer, (24, 16, 12)."""
    check_whole("page_limit", page_limit, 1, 10_000)
    check_number("discount", discount, 0.0, 1.0)
    check_kind("weights", weights, RewardWeights)
    at_least = np.concatenate([np.ones((*shop.FUNNEL.shape[:-1], 1)), shop.FUNNEL], axis=-1)
    chance = at_least - np.append(shop.FUNNEL, np.zeros((*shop.FUNNEL.shape[:-1], 1)), axis=-1)
    value = np.zeros((shop.NUM_TYPES, 5, 5, len(_NEEDS), shop.NUM_LEVELS))
    items = np.zeros((page_limit, *value.shape), np.int8)
    with_need = _NEEDS | (1 << shop.TYPES[:, 0])[:, None]  # (24, 16): the favourite's need arises
    for page in reversed(range(page_limit)):
        stays = value * (1.0 - shop.LEAVE)
        arisen = np.stack([stays[t][:, :, with_need[t]] for t in range(shop.NUM_TYPES)])
        after = (1.0 - shop.NEED_ARISES) * stays + shop.NEED_ARISES * arisen
        q = np.stack(
            [_item_values(i, after, chance, weights, discount) for i in range(shop.NUM_ITEMS)]
        )
        value, items[page] = q.max(axis=0), q.argmax(axis=0)
    return items, np.moveaxis(q[:, :, _NOTHING, _NOTHING, :, shop.START_LEVEL], 0, -1)


def _item_values(
    item: int, after: np.ndarray, chance: np.ndarray, weights: RewardWeights, discount: float
) -> np.ndarray:
    """q of one item in every hidden state, given the value `after` events and need changes."""
    category, kind = divmod(item, len(shop.KINDS))
    needed = _NEEDS >> category & 1
    levels = np.arange(shop.NUM_LEVELS)
    following = after[:, category]  # (24, 5, 16, 7): the item's category is now the last one
    fed = _NEEDS & ~(1 << category)
    wanting = fed | (1 << shop.COMPLEMENT[category])
    share = shop.NEED_OF_COMPLEMENT
    after_sale = (1.0 - share) * following[:, :, fed] + share * following[:, :, wanting]
    paid = weights.of_events(np.arange(len(EVENTS)), shop.MARGIN[item])
    q = np.zeros_like(after)
    for last in range(5):
        for before in range(5):
            tired = (last == category) + (before == category)
            likely = chance[:, :, tired, :, item][:, needed]  # (24, 16, 7, 4 events)
            for event in range(len(EVENTS)):
                then = (after_sale if event == BUY else following)[:, last]
                moved = np.clip(levels + shop.CHANGE[event, kind], 0, shop.NUM_LEVELS - 1)
                risk = shop.CHANCE[event, kind, tired]
                outcome = paid[event] + discount * ((1.0 - risk) * then + risk * then[..., moved])
                q[:, last, before] += likely[..., event] * outcome
    return q


def _start_shares() -> np.ndarray:
    """(24, 16) probability of each type with each set of needs."""
    chance = shop.NEED_AT_START[:, None, :]
    has = (_NEEDS[:, None] & _BITS) > 0
    return shop.TYPE_SHARE[:, None] * np.where(has, chance, 1.0 - chance).prod(axis=-1)


def oracle_policy(
    envs: shop.ShopVectorEnv, items: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Policy that reads the hidden state of the customers of `envs`.

    Args:
        envs: the Shop that the policy will serve, and no other.
        items: the best items, as `solve_oracle` returns them for the page limit of `envs`.

    Raises:
        TypeError, ValueError: envs is not the Shop, or items are not of its shape. The policy
            itself raises a ValueError when it is shown what is not the present page of `envs`.
    """
    check_kind("envs", envs, shop.ShopVectorEnv)
    hidden_shape = shop.NUM_TYPES, 5, 5, len(_NEEDS), shop.NUM_LEVELS
    items = check_integers("items", items, ("pages", *hidden_shape), shop.NUM_ITEMS)
    if len(items) != envs.page_limit:
        cure = f"solve_oracle(page_limit={envs.page_limit})"
        raise ValueError(f"items: {envs.page_limit} pages expected, got {len(items)}: {cure}")

    def policy(observations: np.ndarray) -> np.ndarray:
        shown = check_array("observations", observations, envs.encoder.vectors.shape)
        if not np.array_equal(shown, envs.encoder.vectors):
            raise ValueError(
                "observations: those of the Shop that oracle_policy was made with expected; "
                "whoever else these customers are, their minds are not read here"
            )
        last, before = np.where(envs.last_shown < 0, _NOTHING, envs.last_shown)
        needs = envs.needs @ _BITS
        hidden = envs.page, envs.customer_type, last, before, needs, envs.satisfaction
        return items[hidden]

    return policy
