"""Records of sessions: what `evaluate` sees, page by page, and the customer behind it."""

import numpy as np
import pytest

from dqnrec_lite import evaluate, make_shop
from dqnrec_lite.baselines import attentive_policy, fixed_policy
from dqnrec_lite.encoding import BUY, encode_history
from dqnrec_lite.envs import shop
from dqnrec_lite.logs.records import SessionLog, record_sessions


@pytest.fixture(scope="module")
def log() -> SessionLog:
    return record_sessions(attentive_policy(), make_shop(30, seed=4), 100, observations=True)


def rows_of(log: SessionLog):
    for session in np.unique(log.session):
        yield SessionLog(*(column[log.session == session] for column in log))


def test_the_sessions_are_whole_and_those_of_evaluate(log):
    score = evaluate(attentive_policy(), make_shop(30, seed=4), 100)
    np.testing.assert_allclose(np.bincount(log.session, log.reward), score.returns)
    np.testing.assert_array_equal(np.bincount(log.session), score.lengths)
    for rows in rows_of(log):
        np.testing.assert_array_equal(rows.page, np.arange(len(rows.page)))
        ends = rows.terminated | rows.truncated
        assert ends[-1]
        assert not ends[:-1].any()
        assert not (rows.terminated & rows.truncated).any()


def test_events_items_and_observations_fit_together(log):
    np.testing.assert_allclose(log.reward, shop.MARGIN[log.item] * (log.event == BUY))
    assert set(log.event) == {0, 1, 2, 3}
    for rows in rows_of(log):
        entry = int(rows.observation[0, :16].argmax()) // 4
        for page in range(len(rows.page)):
            before = rows.item[:page].tolist(), rows.event[:page].tolist()
            expected = encode_history(entry, *before, 4, 3, shop.PAGE_LIMIT)
            np.testing.assert_allclose(rows.observation[page], expected, atol=1e-5)
    np.testing.assert_array_equal(attentive_policy()(log.observation), log.item)


def test_satisfaction_moves_as_the_shop_says_to_the_last_page(log):
    """The last page's is the leaving customer's, not the 4 of the next one."""
    changes = {*np.unique(shop.CHANGE).tolist(), 0}
    final = []
    for rows in rows_of(log):
        level = np.concatenate([[shop.START_LEVEL], rows.satisfaction_after])
        kind = rows.item % 3
        moved = np.diff(level)
        expected = np.clip(level[:-1] + shop.CHANGE[rows.event, kind], 0, 6) - level[:-1]
        assert ((moved == 0) | (moved == expected)).all()
        assert set(moved.tolist()) <= changes
        assert len(set(rows.customer_type.tolist())) == 1
        final.append(level[-1])
    assert len(set(final)) > 2


def test_session_i_is_the_same_customer_for_every_policy(log):
    other = record_sessions(fixed_policy([2]), make_shop(30), 100, seed=4, observations=True)
    first, first_other = log.page == 0, other.page == 0
    np.testing.assert_array_equal(log.customer_type[first], other.customer_type[first_other])
    np.testing.assert_array_equal(log.observation[first], other.observation[first_other])
    favourite = shop.TYPES[log.customer_type[first], 0]
    assert (favourite == log.observation[first, :16].argmax(axis=1) // 4).mean() > 0.5


def test_without_observations_there_is_room_for_none():
    log = record_sessions(attentive_policy(), make_shop(3), 5)
    assert log.observation.shape == (len(log.page), 0)
    assert {len(column) for column in log} == {len(log.page)}
