"""Event history -> state vector: counts, recency-decayed counts and the last few pages.

A shop never sees a customer's taste. It sees events: what it showed, and whether the customer
ignored it, viewed it, put it in the cart or bought it. An *encoding* turns that growing list into
a vector of fixed length, the agent's state (Shani, Heckerman & Brafman, JMLR 6, 2005, section 3).

The encoder here is incremental: one event costs the same however long the history is.
`encode_history` computes the same vector from the whole list, by its definition.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dqnrec_lite._checks import (
    MANY,
    check_array,
    check_integers,
    check_kind,
    check_number,
    check_whole,
)

EVENTS = ("ignore", "view", "addtocart", "transaction")
IGNORE, VIEW, CART, BUY = range(4)


class HistoryEncoder:
    """Encodings of many customers' histories, kept up to date event by event.

    The vector of one customer is, in this order (C categories, K kinds of item, 4 events):

    - C x 4 counts per category and event, each page multiplying the old ones by `decay`; the page
      by which the customer came in counts as a view;
    - K x 4 counts per kind and event, decayed in the same way;
    - C counts of purchases per category, not decayed, divided by 4;
    - 2 x C one-hot: the category shown on the last page and on the one before;
    - 4 one-hot: the last event;
    - 1: pages seen so far, divided by `page_limit`.

    Args:
        num_histories: how many customers are followed side by side (n).
        num_categories: how many (C).
        num_kinds: how many (K); item `i` has category `i // K` and kind `i % K`.
        page_limit: pages after which a session is cut off.
        decay: what is left of a count after one page, in [0, 1].

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_histories: int,
        num_categories: int,
        num_kinds: int,
        page_limit: int,
        decay: float = 0.85,
    ) -> None:
        for name, value in [
            ("num_histories", num_histories),
            ("num_categories", num_categories),
            ("num_kinds", num_kinds),
            ("page_limit", page_limit),
        ]:
            check_whole(name, value, 1, MANY)
        check_number("decay", decay, 0.0, 1.0)
        self.num_categories, self.num_kinds = num_categories, num_kinds
        self.decay, self.page_limit = np.float32(decay), page_limit
        self.decayed_size = 4 * (num_categories + num_kinds)
        self.bought_at = self.decayed_size
        self.last_at = self.bought_at + num_categories
        self.event_at = self.last_at + 2 * num_categories
        self.page_at = self.event_at + 4
        self.size = self.page_at + 1
        self.vectors = np.zeros((num_histories, self.size), np.float32)
        self._row_start = np.arange(num_histories) * self.size
        self._flat = self.vectors.reshape(-1)

    def start(self, where: np.ndarray, entry: np.ndarray) -> None:
        """New histories at indices `where`: one view of category `entry`, from outside, each.

        Raises:
            ValueError: an index or a category is out of range, or their numbers differ.
        """
        where = check_integers("where", where, ("m",), len(self.vectors))
        entry = check_integers("entry", entry, where.shape, self.num_categories)
        self.vectors[where] = 0.0
        self.vectors[where, entry * 4 + VIEW] = 1.0

    def update(self, items: np.ndarray, events: np.ndarray) -> None:
        """Add one page to every history, in O(1) per history.

        Args:
            items: what was shown, (n,) integers in [0, C K).
            events: how the customer answered, (n,) integers in [0, 4).

        Raises:
            ValueError: wrong shape, dtype or range; no history is changed then.
        """
        shape, num_items = (len(self.vectors),), self.num_categories * self.num_kinds
        items = check_integers("items", items, shape, num_items)
        events = check_integers("events", events, shape, len(EVENTS))
        categories, kinds = np.divmod(items, self.num_kinds)
        vectors, flat, row = self.vectors, self._flat, self._row_start
        vectors[:, : self.decayed_size] *= self.decay
        flat[row + categories * 4 + events] += 1.0
        flat[row + (self.num_categories + kinds) * 4 + events] += 1.0
        flat[row + self.bought_at + categories] += (events == BUY) * np.float32(0.25)
        last, before = self.last_at, self.last_at + self.num_categories
        vectors[:, before : self.event_at] = vectors[:, last:before]
        vectors[:, last:before] = 0.0
        flat[row + last + categories] = 1.0
        vectors[:, self.event_at : self.page_at] = 0.0
        flat[row + self.event_at + events] = 1.0
        vectors[:, self.page_at] += np.float32(1.0 / self.page_limit)


class VectorParts(NamedTuple):
    """What the encoder's vectors hold, by name: n of them, C categories, K kinds."""

    by_category: np.ndarray  # (n, C, 4) decayed counts of events
    by_kind: np.ndarray  # (n, K, 4) decayed counts of events
    bought: np.ndarray  # (n, C) purchases, divided by 4
    last_shown: np.ndarray  # (n, 2, C) one-hot: on the last page, and on the one before
    last_event: np.ndarray  # (n, 4) one-hot
    page: np.ndarray  # (n,) pages so far, divided by the page limit


def split_vectors(vectors: np.ndarray, num_categories: int, num_kinds: int) -> VectorParts:
    """Take the encoder's vectors, (n, size), apart again; the parts are views.

    Raises:
        ValueError: the vectors are not of the encoder's size, or not finite.
    """
    c, k = check_whole("num_categories", num_categories), check_whole("num_kinds", num_kinds)
    vectors = check_array("observations", vectors, ("n", 7 * c + 4 * k + 5))
    ends = np.cumsum([4 * c, 4 * k, c, 2 * c, 4])
    parts = np.split(vectors, ends, axis=1)
    shapes = (-1, c, 4), (-1, k, 4), (-1, c), (-1, 2, c), (-1, 4), (-1,)
    return VectorParts(*(part.reshape(s) for part, s in zip(parts, shapes, strict=True)))


def encode_history(
    entry: int,
    items: list[int],
    events: list[int],
    num_categories: int,
    num_kinds: int,
    page_limit: int,
    decay: float = 0.85,
) -> np.ndarray:
    """The same vector from a whole history, by its definition: (size,) float32.

    An event of age k pages counts decay^k. Agrees with `HistoryEncoder` to float32 rounding.

    Args:
        entry: category by whose page the customer came in.
        items: item shown on each page, oldest first.
        events: answer to each page, oldest first, as indices into `EVENTS`.
        num_categories, num_kinds, page_limit, decay: as for `HistoryEncoder`.

    Raises:
        ValueError: the lists differ in length, or hold an unknown category, item or event.
    """
    check_number("decay", decay, 0.0, 1.0)
    check_whole("page_limit", page_limit, 1, MANY)
    num_categories = check_whole("num_categories", num_categories, 1, MANY)
    num_kinds = check_whole("num_kinds", num_kinds, 1, MANY)
    check_kind("items", items, list, tuple, np.ndarray)
    check_kind("events", events, list, tuple, np.ndarray)
    if len(items) != len(events):
        raise ValueError(
            f"items and events differ in length: {len(items)} and {len(events)}, one expected"
        )
    for name, values, bound in [
        ("entry", [entry], num_categories),
        ("items", items, num_categories * num_kinds),
        ("events", events, len(EVENTS)),
    ]:
        for page, value in enumerate(values):
            check_whole(f"{name}[{page}]", value, 0, bound - 1)
    pages = len(items)
    by_category = np.zeros((num_categories, len(EVENTS)))
    by_kind = np.zeros((num_kinds, len(EVENTS)))
    by_category[entry, VIEW] = decay**pages
    bought = np.zeros(num_categories)
    shown_last = np.zeros((2, num_categories))
    last_event = np.zeros(len(EVENTS))
    for page, (item, event) in enumerate(zip(items, events, strict=True)):
        category, kind = divmod(item, num_kinds)
        age = pages - 1 - page
        by_category[category, event] += decay**age
        by_kind[kind, event] += decay**age
        bought[category] += event == BUY
        if age < 2:
            shown_last[age, category] = 1.0
        if age == 0:
            last_event[event] = 1.0
    page_share = np.array([pages / page_limit])
    parts = by_category, by_kind, bought / 4, shown_last, last_event, page_share
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)
