"""What a memory is worth that cannot hold the whole history, exactly, and what none exceeds.

A shop does not see the state. It keeps a *note*, one of finitely many, and rewrites it after each
step from the note, its action and the event. State and note together are a Markov chain, so a
policy that sees nothing but the note has an exact value (Singh, Jaakkola & Jordan, ICML 1994).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from dqnrec_lite._checks import check_kind, check_number, check_whole
from dqnrec_lite.envs.tabular import FiniteMDP

Policy = Mapping[Any, Any]  # note -> an action, or the chances of all actions
MOST_NOTES = 200


class NoteMemory:
    """A memory of notes on a `FiniteMDP`.

    Args:
        mdp: the tables. An event must leave at least one state alive to reach the note.
        first: the note with which a session begins.
        update: (note, action, event) -> the next note.

    Attributes:
        notes: every note that can occur, the first on top.

    Raises:
        ValueError: there are more than 200 notes.
    """

    def __init__(
        self, mdp: FiniteMDP, first: Hashable, update: Callable[[Any, int, int], Hashable]
    ) -> None:
        check_kind("mdp", mdp, FiniteMDP)
        self.live = np.flatnonzero(~mdp.terminal)
        self.joint = _live_joint(mdp, self.live)  # (S, A, E, S)
        self.reward, self.start = mdp.R[self.live], mdp.start[self.live]
        _, actions, events, _ = self.joint.shape
        occurs = np.flatnonzero(self.joint.any(axis=(0, 1, 3)))
        self.notes: list[Any] = [first]
        self.following = np.zeros((MOST_NOTES, actions, events), np.int64)
        for number, note in enumerate(self.notes):  # the list grows while we walk along it
            for action in range(actions):
                for event in occurs:
                    reached = update(note, action, int(event))
                    if reached not in self.notes:
                        self.notes.append(reached)
                    self.following[number, action, event] = self.notes.index(reached)
            if len(self.notes) > MOST_NOTES:
                raise ValueError(f"update: more than {MOST_NOTES} notes")
        self.following = self.following[: len(self.notes)]

    def worth(self, policy: Policy, discount: float) -> float:
        """Mean discounted return of a policy over new sessions.

        Args:
            policy: for each note an action, or the chances of all actions.
            discount: gamma, in [0, 1).

        Raises:
            ValueError: discount is out of range.
        """
        move, reward = self._chain(policy)
        below_1 = _below_1(discount)
        value = np.linalg.solve(np.eye(len(reward)) - below_1 * move, reward)
        return float(self.start @ value[: len(self.live)])

    def planned(self, log_policy: Policy, discount: float) -> np.ndarray:
        """What a planner believes that takes the notes for states: q, (notes, actions).

        Its tables are averages over the states that a log of `log_policy` holds under each note;
        on them it runs value iteration. So does Q-learning from such a log in the limit (Singh,
        Jaakkola & Jordan). A note that the log does not hold is worth nothing.

        Raises:
            ValueError: discount is out of range.
        """
        below_1 = _below_1(discount)
        move, _ = self._chain(log_policy)
        begin = np.zeros(len(move))
        begin[: len(self.live)] = self.start
        pages = np.linalg.solve(np.eye(len(move)) - move.T, begin).reshape(len(self.notes), -1)
        share = pages / np.maximum(pages.sum(axis=1, keepdims=True), 1e-300)
        reward = share @ self.reward
        chance = np.tensordot(share, self.joint.sum(axis=3), axes=1)  # (notes, A, E), stays
        q, change = np.zeros_like(reward), np.inf
        while change > 1e-10:
            value = q.max(axis=1)[self.following]
            swept = reward + below_1 * (chance * value).sum(axis=2)
            q, change = swept, np.abs(swept - q).max()
        return q

    def _chain(self, policy: Policy) -> tuple[np.ndarray, np.ndarray]:
        """Of note and state together: chances of the next pair, and mean reward."""
        states, actions, events, _ = self.joint.shape
        size = len(self.notes), states
        move, reward = np.zeros((*size, *size)), np.zeros(size)
        for number, note in enumerate(self.notes):
            chances = np.asarray(policy[note], np.float64)
            if chances.ndim == 0:
                chances = np.eye(actions)[int(policy[note])]
            reward[number] = self.reward @ chances
            for action in np.flatnonzero(chances):
                for event in range(events):
                    reached = self.following[number, action, event]
                    move[number, :, reached] += chances[action] * self.joint[:, action, event]
        return move.reshape(reward.size, reward.size), reward.ravel()


def _live_joint(mdp: FiniteMDP, live: np.ndarray) -> np.ndarray:
    return mdp.joint[live][..., live]


def _below_1(discount: float) -> float:
    if check_number("discount", discount, 0.0, 1.0) == 1.0:
        raise ValueError("discount=1.0: below 1 expected")
    return discount


def history_bound(mdp: FiniteMDP, discount: float, late: int = 2) -> float:
    """Most that a policy can be worth which sees its actions and the events, but no state.

    Somebody whispers the state to it, `late` steps after the fact. That is more than a history can
    tell, so no memory of the history brings more. (For 1 it is the fast informed bound of
    Hauskrecht, JAIR 13, 2000.) Work and memory grow with (actions x events) ** late.

    Args:
        mdp: the tables.
        discount: gamma, in [0, 1).
        late: steps, at least 1.

    Raises:
        ValueError: an argument is out of range.
    """
    _below_1(discount)
    check_whole("late", late, 1)
    live = np.flatnonzero(~mdp.terminal)
    joint = _live_joint(mdp, live)
    joint = joint[:, :, joint.any(axis=(0, 1, 3))]  # events that occur while the session goes on
    states, actions, events, _ = joint.shape
    step = joint.reshape(states, actions * events, states)  # an action with its event: one index
    start = mdp.start[live]

    def push(after: np.ndarray) -> np.ndarray:
        """One more step before: (S, seen, actions) -> (S, actions x events x seen, actions)."""
        return np.tensordot(step, after, axes=1).reshape(states, -1, actions)

    rewards = [mdp.R[live][:, None, :]]  # [k]: (S, what was seen in k steps, action now)
    for _ in range(late):
        rewards.append(push(rewards[-1]))
    value, change = np.zeros((states, len(rewards[-1][0]))), np.inf
    while change > 1e-9:
        heard = value.reshape(states, -1, actions, events).sum(axis=-1)  # this event comes later
        swept = (rewards[-1] + discount * push(heard)).max(axis=-1)
        value, change = swept, np.abs(swept - value).max()
    worth = start @ value  # from here on the first steps, before the first whisper
    for reward in reversed(rewards[:-1]):
        now = np.tensordot(start, reward, axes=1)
        worth = (now + discount * worth.reshape(*now.shape, events).sum(axis=-1)).max(axis=-1)
    return float(worth[0])
