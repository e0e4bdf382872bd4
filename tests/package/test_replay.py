"""The replay buffer against a deque, and n-step transitions against a sum written out."""

from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dqnrec_lite.nstep import NStepWindow
from dqnrec_lite.replay import Batch, ReplayBuffer, blank_transition
from dqnrec_lite.sessions import Step


def numbered(first: int, count: int, size: int = 3) -> Batch:
    """Transitions whose every entry tells which one it is."""
    number = np.arange(first, first + count)
    observation = number[:, None] + np.arange(size) / 10
    return Batch(observation, number % 7, number * 2.0, -observation, number % 2, number % 3 + 1)


def buffer_of(capacity: int, size: int) -> ReplayBuffer:
    return ReplayBuffer(capacity, blank_transition(size))


def kept(buffer: ReplayBuffer) -> Batch:
    return buffer.data.apply(lambda array: array[: len(buffer)])


def gathered(rows: np.ndarray) -> Batch:
    """The numbered transitions of these numbers, in this order."""
    return numbered(0, 1000).apply(lambda array: array[rows])


def equal(ours: Batch, theirs: Batch) -> bool:
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None or b is not None]
    return all(np.array_equal(a, np.asarray(b, a.dtype)) for a, b in pairs)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.lists(st.integers(0, 12), max_size=12))
def test_the_ring_keeps_what_a_deque_keeps(capacity, counts):
    buffer, model, first = buffer_of(capacity, 3), deque(maxlen=capacity), 0
    for count in counts:
        count = min(count, capacity)
        buffer.add(numbered(first, count))
        model.extend(range(first, first + count))
        first += count
        assert len(buffer) == buffer.size == len(model)
        stored = sorted(buffer.data.observation[: len(buffer), 0].astype(int))
        assert stored == list(model)
        rows = buffer.data.observation[: len(buffer), 0].astype(int)
        assert equal(kept(buffer), gathered(rows))


def test_memory_is_8_bytes_an_entry_of_an_observation_and_16_more():
    for capacity, size in [(1, 1), (10, 3), (1000, 45)]:
        assert buffer_of(capacity, size).nbytes == capacity * (8 * size + 16)


def test_types_are_those_that_training_uses():
    buffer = buffer_of(4, 3)
    buffer.add(numbered(0, 4))
    sample = buffer.sample((2, 5), np.random.default_rng(0))
    assert sample.next_action_mask is None
    assert [a.dtype for a in sample[:6]] == [np.float32, np.int32] + 4 * [np.float32]
    assert [a.shape for a in sample[:6]] == [(2, 5, 3), (2, 5), (2, 5), (2, 5, 3), (2, 5), (2, 5)]


def test_the_buffer_takes_shapes_and_types_after_its_example():
    """A slate of two items as action, and half the memory for observations."""
    like = blank_transition(4)._replace(
        observation=np.zeros(4, np.float16), action=np.zeros(2, np.int16)
    )
    data = ReplayBuffer(5, like).data
    assert (data.observation.shape, data.observation.dtype) == ((5, 4), np.float16)
    assert (data.action.shape, data.action.dtype) == ((5, 2), np.int16)
    assert (data.reward.shape, data.reward.dtype) == ((5,), np.float32)


def looks_uniform(rows: np.ndarray, stored: int) -> bool:
    """Pearson's test on both sides: no row is preferred, nor are all more even than by chance."""
    seen = np.bincount(rows, minlength=stored)
    return len(seen) == stored and 1e-4 < stats.chisquare(seen).pvalue < 1 - 1e-4


def test_sampling_is_uniform_over_what_is_stored_and_nothing_else():
    for stored in (40, 100, 170):
        buffer = buffer_of(100, 3)
        for first in range(0, stored, 10):
            buffer.add(numbered(first, 10))
        drawn = buffer.sample(50_000, np.random.default_rng(1)).observation[:, 0].astype(int)
        assert looks_uniform(drawn - max(0, stored - 100), min(stored, 100))


def test_samplers_that_are_not_uniform_are_noticed():
    rng, count = np.random.default_rng(1), 10_000
    wrong = {
        "forgets the newest row": rng.integers(0, 99, count),
        "prefers old rows slightly": (100 * rng.random(count) ** 1.15).astype(int),
        "draws from rows not yet filled": rng.integers(0, 200, count),
        "walks through the rows in turn": np.arange(count) % 100,
    }
    assert [name for name, rows in wrong.items() if looks_uniform(rows, 100)] == []


def test_the_rows_of_a_sample_belong_together():
    buffer = buffer_of(50, 3)
    buffer.add(numbered(5, 50))
    sample = buffer.sample(300, np.random.default_rng(2))
    rows = sample.observation[:, 0].astype(int)
    assert equal(sample, gathered(rows))


def test_the_same_generator_gives_the_same_sample():
    buffer = buffer_of(50, 3)
    buffer.add(numbered(0, 50))
    one, two, other = (buffer.sample(99, np.random.default_rng(s)) for s in (3, 3, 4))
    assert equal(one, two)
    assert not equal(one, other)


def test_a_sample_is_a_copy():
    buffer = buffer_of(5, 3)
    buffer.add(numbered(0, 5))
    buffer.sample(5, np.random.default_rng(0)).observation[:] = 99
    assert (buffer.data.observation < 99).all()


BAD = {
    "observation": [np.zeros((2, 4)), np.zeros(2), np.full((2, 3), np.nan), np.full((2, 3), 1e39)],
    "action": [np.zeros(3, int), np.zeros(2), np.array(["a", "b"])],
    "reward": [np.array([1.0, np.inf]), np.zeros(1), np.array([None, 1.0], object)],
    "next_observation": [np.zeros((1, 3)), np.full((2, 3), -np.inf)],
    "terminated": [np.zeros((2, 1)), np.array([np.nan, 0.0]), np.array([0.5, 0.0])],
    "steps": [np.zeros(5), np.array([1.0, 0.0])],
    "next_action_mask": [np.ones(2, bool), np.ones((3, 2), bool), np.zeros((2, 2)), np.eye(2) / 2],
}


def test_a_refused_batch_leaves_nothing_half_written():
    buffer = buffer_of(5, 3)
    buffer.add(numbered(0, 4))
    before, wrong = kept(buffer).apply(np.copy), []
    for name, bad in [(column, bad) for column in BAD for bad in BAD[column]]:
        try:
            buffer.add(numbered(7, 2)._replace(**{name: bad}))
            wrong.append(f"{name}={bad!r} was stored")
        except ValueError as error:
            if not str(error).startswith(("observation", "action") if name == "action" else name):
                wrong.append(f"{name}={bad!r}: {error}")
        if (buffer.position, buffer.size) != (4, 4) or not equal(kept(buffer), before):
            wrong.append(f"{name}={bad!r} has left something")
            break
    assert not wrong, "\n".join(wrong)


def test_a_refused_number_is_named_with_its_place():
    reward = np.array([0.0, 1.0, np.nan])
    with pytest.raises(ValueError, match=r"reward\[2\] is nan"):
        buffer_of(5, 3).add(numbered(0, 3)._replace(reward=reward))


def test_more_than_the_buffer_holds_is_refused():
    with pytest.raises(ValueError, match="batch of 6 transitions: the buffer holds 5"):
        buffer_of(5, 3).add(numbered(0, 6))


def test_an_empty_buffer_gives_no_sample():
    with pytest.raises(ValueError, match="empty"):
        buffer_of(5, 3).sample(1, np.random.default_rng(0))


@pytest.mark.parametrize("capacity", [0, -1])
def test_impossible_sizes_are_refused(capacity):
    with pytest.raises(ValueError, match="at least 1"):
        buffer_of(capacity, 3)


def test_what_does_not_fit_into_memory_is_refused_with_its_size():
    with pytest.raises(MemoryError, match=r"of 40 bytes each, 1\.8e\+08 GB, do not fit"):
        buffer_of(9 * 10**15 // 2, 3)


def random_steps(rng: np.random.Generator, lanes: int, count: int, next_step_reset: bool):
    """Steps of sessions that end at random. An observation is (session, step) of its lane."""
    session, step = np.zeros(lanes, int), np.zeros(lanes, int)
    restarting = np.zeros(lanes, bool)
    for _ in range(count):
        observation = np.stack([session, step], axis=1).astype(float)
        valid = ~restarting
        ends = rng.random(lanes) < 0.25
        terminated = valid & ends & (rng.random(lanes) < 0.5)
        truncated = valid & ends & ~terminated
        reward = np.where(valid, rng.normal(size=lanes), 0.0)
        step = step + valid
        successor = np.stack([session, step], axis=1).astype(float)
        ended = terminated | truncated
        if next_step_reset:  # the next row is no step: it only brings the first observation
            session, step = session + restarting, np.where(restarting, 0, step)
            successor = np.where(valid[:, None], successor, np.stack([session, step], axis=1))
            restarting = ended
        else:
            session, step = session + ended, np.where(ended, 0, step)
        yield observation, Step(reward, successor, terminated, truncated, valid)


@pytest.mark.parametrize("next_step_reset", [False, True])
@pytest.mark.parametrize("n_step", [1, 2, 3, 7])
def test_n_step_transitions_equal_the_sum_written_out(n_step, next_step_reset):
    rng, discount, lanes = np.random.default_rng(n_step), 0.9, 5
    window = NStepWindow(n_step, discount)
    history = [[] for _ in range(lanes)]  # per lane: (observation, action, reward, ...)
    produced = {}
    for number, (observation, step) in enumerate(random_steps(rng, lanes, 120, next_step_reset)):
        action = np.arange(lanes) + lanes * number  # names lane and time
        batch = window.push(observation, action, step)
        for row in zip(*batch[:6], strict=True):
            assert int(row[1]) not in produced
            produced[int(row[1])] = row
        for lane in np.flatnonzero(step.valid):
            ended = step.terminated[lane] or step.truncated[lane]
            history[lane].append(
                (
                    observation[lane],
                    action[lane],
                    step.reward[lane],
                    step.next_observation[lane],
                    step.terminated[lane],
                    ended,
                )
            )
    expected = 0
    for rows in history:
        for start in range(len(rows)):
            total, length = 0.0, 0
            for _, _, reward, *after in rows[start : start + n_step]:
                successor, terminated, ended = after
                total += discount**length * reward
                length += 1
                if ended:
                    break
            if length < n_step and not ended:
                continue  # still open when the record stops
            expected += 1
            first, action = rows[start][:2]
            observation, _, reward, next_observation, end, steps = produced[int(action)]
            np.testing.assert_array_equal(observation, first)
            np.testing.assert_array_equal(next_observation, successor)
            assert (end, steps) == (terminated, length)
            assert reward == pytest.approx(total)
            assert next_observation[0] == observation[0]  # never across a reset
    assert expected == len(produced) > 300


def test_an_open_transition_is_what_was_seen_though_the_caller_writes_over_his_arrays():
    """One session, three steps, one array for all observations and one for all actions."""
    window, stored = NStepWindow(3, 0.5), []
    observation, action = np.zeros((1, 2)), np.zeros(1, np.int64)
    reward, yes, no = np.ones(1), np.ones(1, bool), np.zeros(1, bool)
    valid = yes.copy()
    for number in range(3):
        observation[:], action[:] = number, number
        step = Step(reward, np.full((1, 2), number + 1.0), no, no, valid)
        stored.append(window.push(observation, action, step))
    observation[:], action[:], valid[:] = 99, 99, False
    given_up = SimpleNamespace(num_envs=1, observations=np.full((1, 2), 3.0), action_mask=None)
    stored.append(window.flush(given_up))
    rows = [np.concatenate(column) for column in zip(*(b[:6] for b in stored), strict=True)]
    assert rows[0].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert rows[1].tolist() == [0, 1, 2]
    assert rows[2].tolist() == [1.75, 1.5, 1.0]
    assert rows[3].tolist() == [[3, 3]] * 3
    assert rows[5].tolist() == [3, 2, 1]
    assert window.flush(given_up) is None
