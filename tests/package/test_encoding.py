"""The incremental encoder against its definition, on random histories."""

import numpy as np
import pytest

from dqnrec_lite.encoding import BUY, VIEW, HistoryEncoder, encode_history
from dqnrec_lite.envs.shop import make_shop


def test_incremental_encoding_equals_the_definition_on_10_000_histories():
    rng, worst = np.random.default_rng(0), 0.0
    for categories, kinds, page_limit, decay in [
        (4, 3, 40, 0.85),
        (4, 3, 40, 0.85),
        (1, 1, 5, 0.5),
        (3, 2, 7, 0.0),
        (5, 4, 12, 1.0),
    ]:
        lanes = 2000
        pages = int(min(page_limit, 16))
        encoder = HistoryEncoder(lanes, categories, kinds, page_limit, decay)
        entry = rng.integers(0, categories, lanes)
        items = rng.integers(0, categories * kinds, (pages, lanes))
        events = rng.integers(0, 4, (pages, lanes))
        encoder.start(np.arange(lanes), entry)
        length = rng.integers(0, pages + 1, lanes)
        kept = encoder.vectors.copy()
        for page in range(pages):
            encoder.update(items[page], events[page])
            kept = np.where((length > page)[:, None], encoder.vectors, kept)
        for i in range(lanes):
            history = items[: length[i], i].tolist(), events[: length[i], i].tolist()
            expected = encode_history(int(entry[i]), *history, categories, kinds, page_limit, decay)
            worst = max(worst, np.abs(kept[i] - expected).max())
    assert worst < 2e-6


def test_a_history_by_hand():
    """Two categories, one kind, decay 0.5: entry by category 1, bought 0, then ignored 1."""
    vector = encode_history(1, [0, 1], [BUY, 0], 2, 1, page_limit=8, decay=0.5)
    by_category = [0, 0, 0, 0.5, 1, 0.25, 0, 0]
    by_kind = [1, 0, 0, 0.5]
    bought, last, before, event, page = [0.25, 0], [0, 1], [1, 0], [1, 0, 0, 0], [0.25]
    expected = [*by_category, *by_kind, *bought, *last, *before, *event, *page]
    np.testing.assert_allclose(vector, expected)


def test_starting_anew_forgets_one_history_and_no_other():
    encoder = HistoryEncoder(3, 4, 3, 40)
    encoder.start(np.arange(3), np.zeros(3, int))
    encoder.update(np.array([1, 2, 3]), np.array([1, 2, 3]))
    before = encoder.vectors.copy()
    encoder.start(np.array([1]), np.array([2]))
    np.testing.assert_array_equal(encoder.vectors[[0, 2]], before[[0, 2]])
    expected = np.zeros(encoder.size)
    expected[2 * 4 + VIEW] = 1
    np.testing.assert_array_equal(encoder.vectors[1], expected)


@pytest.mark.parametrize("page_limit", [3, 40, 200])
def test_the_most_extreme_histories_stay_inside_the_observation_space(page_limit):
    space = make_shop(page_limit=page_limit).single_observation_space
    for event in range(4):
        pages = [4] * page_limit, [event] * page_limit
        vector = encode_history(1, *pages, num_categories=4, num_kinds=3, page_limit=page_limit)
        assert space.contains(vector)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, [1], []), "items and events"),
        ((4, [], []), r"entry\[0\]=4"),
        ((-1, [], []), r"entry\[0\]=-1"),
        ((0, [1, 12], [0, 0]), r"items\[1\]=12"),
        ((0, [1, 2], [0, 4]), r"events\[1\]=4"),
    ],
)
def test_impossible_histories_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        encode_history(*arguments, num_categories=4, num_kinds=3, page_limit=40)


@pytest.mark.parametrize(
    "name", ["num_histories", "num_categories", "num_kinds", "page_limit", "decay"]
)
def test_impossible_sizes_are_refused_by_name(name):
    sizes = {"num_histories": 1, "num_categories": 2, "num_kinds": 3, "page_limit": 4, "decay": 0.5}
    with pytest.raises(ValueError, match=f"{name}=-1"):
        HistoryEncoder(**(sizes | {name: -1}))
