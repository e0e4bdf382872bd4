"""Event history -> state vector: counts, recency-decayed counts and the last few pages.

A shop never sees a customer's taste. It sees events: what it showed, and whether the customer
ignored it, viewed it, put it in the cart or bought it. An *encoding* turns that growing list into
a vector of fixed length, the agent's state (Shani, Heckerman & Brafman, JMLR 6, 2005, section 3).

The encoder here is incremental: one event costs the same however long the history is.
`encode_history` computes the same vector from the whole list, by its definition.
"""

from __future__ import annotations

from math import prod
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
DECAY = 0.85  # what is left of a count after one page, where nothing else is said


class VectorParts(NamedTuple):
    """What the encoder's vectors hold, by name and in order: n of them, C categories, K kinds.

    A page of age k counts `decay**k` in the first two; the page by which the customer came in
    counts as a view of its category.
    """

    by_category: np.ndarray  # (n, C, 4) decayed counts of events
    by_kind: np.ndarray  # (n, K, 4) decayed counts of events
    bought: np.ndarray  # (n, C) purchases, not decayed, divided by 4
    last_shown: np.ndarray  # (n, 2, C) one-hot: on the last page, and on the one before
    last_event: np.ndarray  # (n, 4) one-hot
    page: np.ndarray  # (n,) pages so far, divided by the page limit


def _shapes(c: int, k: int) -> list[tuple[int, ...]]:
    """Shape of each part of one vector: c categories, k kinds, 4 events."""
    return [(c, 4), (k, 4), (c,), (2, c), (4,), ()]


def _size(num_categories: int, num_kinds: int) -> int:
    return sum(prod(shape) for shape in _shapes(num_categories, num_kinds))


def _split(vectors: np.ndarray, num_categories: int, num_kinds: int) -> VectorParts:
    shapes = _shapes(num_categories, num_kinds)
    ends = np.cumsum([prod(shape) for shape in shapes])
    parts = np.split(vectors, ends[:-1], axis=1)
    return VectorParts(
        *(part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True))
    )


def split_vectors(vectors: np.ndarray, num_categories: int, num_kinds: int) -> VectorParts:
    """Take the encoder's vectors, (n, size), apart again; the parts are views.

    Raises:
        ValueError: the vectors are not of the encoder's size, or not finite.
    """
    c = check_whole("num_categories", num_categories, 1, MANY)
    k = check_whole("num_kinds", num_kinds, 1, MANY)
    vectors = check_array("observations", vectors, ("n", _size(c, k)))
    return _split(vectors, c, k)


class HistoryEncoder:
    """Encodings of many customers' histories, kept up to date event by event.

    `vectors` holds one row a customer, with the parts of `VectorParts` in their order; `seen` are
    the same numbers by name.

    Args:
        num_histories: how many customers are followed side by side (n).
        num_categories: how many (C).
        num_kinds: how many (K); item `i` has category `i // K` and kind `i % K`.
        page_limit: pages after which a session is cut off.
        decay: what is left of a count after one page, in [0, 1].

    Attributes:
        vectors: (n, size) float32, written over by every `start` and `update`.
        seen: `VectorParts`, views of `vectors`.
        size: length of one vector.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_histories: int,
        num_categories: int,
        num_kinds: int,
        page_limit: int,
        decay: float = DECAY,
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
        self.page_limit = page_limit
        self.size = _size(num_categories, num_kinds)
        self.vectors = np.zeros((num_histories, self.size), np.float32)
        self.seen = _split(self.vectors, num_categories, num_kinds)
        self._left = np.ones(self.size, np.float32)  # the share of each entry that a page leaves
        left = _split(self._left[None], num_categories, num_kinds)
        left.by_category[:], left.by_kind[:] = decay, decay
        left.last_shown[:, 0], left.last_event[:] = 0.0, 0.0
        self._row = np.arange(num_histories)

    def start(self, where: np.ndarray, entry: np.ndarray) -> None:
        """New histories at indices `where`: one view of category `entry`, from outside, each.

        Raises:
            ValueError: an index or a category is out of range, or their numbers differ.
        """
        where = check_integers("where", where, ("m",), len(self.vectors))
        entry = check_integers("entry", entry, where.shape, self.num_categories)
        self.vectors[where] = 0.0
        self.seen.by_category[where, entry, VIEW] = 1.0

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
        categories = items // self.num_kinds
        kinds = items - self.num_kinds * categories  # NumPy's % takes four times as long
        buyers = np.flatnonzero(events == BUY)
        seen, row = self.seen, self._row
        seen.last_shown[:, 1] = seen.last_shown[:, 0]
        self.vectors *= self._left
        seen.by_category[row, categories, events] += 1.0
        seen.by_kind[row, kinds, events] += 1.0
        seen.bought[buyers, categories[buyers]] += 0.25
        seen.last_shown[row, 0, categories] = 1.0
        seen.last_event[row, events] = 1.0
        seen.page[:] += np.float32(1.0 / self.page_limit)


def encode_history(
    entry: int,
    items: list[int],
    events: list[int],
    num_categories: int,
    num_kinds: int,
    page_limit: int,
    decay: float = DECAY,
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
    vector = np.zeros((1, _size(num_categories, num_kinds)))
    seen = _split(vector, num_categories, num_kinds)
    seen.by_category[0, entry, VIEW] = decay**pages
    for page, (item, event) in enumerate(zip(items, events, strict=True)):
        category, kind = divmod(item, num_kinds)
        age = pages - 1 - page
        seen.by_category[0, category, event] += decay**age
        seen.by_kind[0, kind, event] += decay**age
        seen.bought[0, category] += (event == BUY) / 4
        if age < 2:
            seen.last_shown[0, age, category] = 1.0
        if age == 0:
            seen.last_event[0, event] = 1.0
    seen.page[0] = pages / page_limit
    return vector[0].astype(np.float32)
