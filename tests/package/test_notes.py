"""What a memory of notes is worth, and the bound that none exceeds."""

from dataclasses import replace

import numpy as np
import pytest
from test_tabular import random_mdp

from dqnrec_lite import FiniteMDP, PocketShop, policy_value, value_iteration
from dqnrec_lite.envs.memory import NoteMemory, history_bound


def told_by_events(seed: int) -> FiniteMDP:
    """Random tables whose event is the number of the next state; a session begins in state 0."""
    mdp = random_mdp(seed)
    joint = np.einsum("sat,te->saet", mdp.P, np.eye(4))
    paid = np.repeat(mdp.R[..., None], 4, axis=2)
    return FiniteMDP(joint, paid, np.eye(4)[0], mdp.terminal, mdp.observations)


def test_one_note_is_worth_what_the_policy_is_that_sees_nothing():
    for seed in range(4):
        mdp = random_mdp(seed)
        blind = NoteMemory(mdp, None, lambda note, action, event: None)
        assert blind.notes == [None]
        for chances in ([0.2, 0.5, 0.3], [0.0, 0.0, 1.0]):
            exact = mdp.start @ policy_value(mdp, np.tile(chances, (4, 1)), 0.9)
            assert blind.worth({None: chances}, 0.9) == pytest.approx(exact)
        assert blind.worth({None: 2}, 0.9) == pytest.approx(exact)


def test_notes_that_are_the_state_give_the_optimum_whatever_the_log():
    for seed in range(4):
        mdp = told_by_events(seed)
        memory = NoteMemory(mdp, 0, lambda note, action, event: event)
        q = value_iteration(mdp, 0.9)
        for log in (dict.fromkeys(range(4), np.full(3, 1 / 3)), dict.fromkeys(range(4), 1)):
            planned = memory.planned(log, 0.9)
            best = {
                note: int(row.argmax()) for note, row in zip(memory.notes, planned, strict=True)
            }
            assert memory.worth(best, 0.9) == pytest.approx(q[0].max(), abs=1e-7)


def test_too_many_notes_and_a_discount_of_1_are_refused():
    mdp = random_mdp(0)
    with pytest.raises(ValueError, match="more than 200 notes"):
        NoteMemory(mdp, 0, lambda note, action, event: note + 1)
    blind = NoteMemory(mdp, None, lambda note, action, event: None)
    with pytest.raises(ValueError, match=r"discount=1\.0"):
        blind.worth({None: 0}, 1.0)


def test_no_memory_is_worth_more_than_the_bound_of_a_late_whisper():
    for seed in range(5):
        mdp = random_mdp(seed)
        optimum = mdp.start @ value_iteration(mdp, 0.9).max(axis=1)
        bounds = [history_bound(mdp, 0.9, late) for late in (1, 2, 3)]
        blind = max(mdp.start @ policy_value(mdp, np.full(4, a), 0.9) for a in range(3))
        assert (np.diff([optimum, *bounds, blind]) <= 1e-7).all()  # later is no better
    mdp = PocketShop().mdp
    for item in range(6):  # one item on the shelf: nothing to choose, so nothing to whisper
        joint, paid = mdp.joint[:, [item]], mdp.event_reward[:, [item]]
        one = replace(mdp, joint=joint, event_reward=paid)
        exact = mdp.start @ policy_value(one, np.zeros(81, int), 0.95)
        for late in (1, 2):
            assert history_bound(one, 0.95, late) == pytest.approx(exact, abs=1e-6)


def test_the_bound_is_the_optimum_where_events_tell_the_state():
    told = told_by_events(3)
    optimum = value_iteration(told, 0.9).max(axis=1)[0]
    assert history_bound(told, 0.9, 1) == pytest.approx(optimum, abs=1e-7)
    with pytest.raises(ValueError, match=r"discount=1\.0"):
        history_bound(told, 1.0)
