"""Q-learning in a table of 160 states: planning without a network."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from dqnrec_lite._checks import check_number
from dqnrec_lite.baselines.online import learn_online, start_sessions
from dqnrec_lite.baselines.rules import passed_over_premium, rested_interest
from dqnrec_lite.encoding import BUY, split_vectors
from dqnrec_lite.envs import shop
from dqnrec_lite.evaluation import Policy
from dqnrec_lite.sessions import Step

_CATEGORIES, _KINDS = len(shop.CATEGORIES), len(shop.KINDS)
NUM_COARSE_STATES = _CATEGORIES * _CATEGORIES * (_CATEGORIES + 1) * 2


def coarse_state(observations: np.ndarray) -> np.ndarray:
    """One of 160 states for each observation, (n,) int64: small enough for a table.

    The category of most interest, that of second most (`rested_interest`), what was bought on the
    last page (a category, or nothing), and whether premium was passed over. Chosen on tuning seeds
    from eight such states: finer ones, of up to 800, learnt less in the same time.
    """
    seen = split_vectors(observations, _CATEGORIES, _KINDS)
    order = np.argsort(-rested_interest(seen), axis=1, kind="stable")
    bought = seen.last_event[:, BUY] > 0
    sold = np.where(bought, seen.last_shown[:, 0].argmax(axis=1), _CATEGORIES)
    passed = passed_over_premium(seen)
    return ((order[:, 0] * _CATEGORIES + order[:, 1]) * (_CATEGORIES + 1) + sold) * 2 + passed


def train_tabular(
    envs: gym.Env | VectorEnv,
    total_steps: int,
    discount: float = 0.97,
    epsilon_end: float = 0.05,
    step_power: float = 0.9,
    seed: int | None = None,
) -> Policy:
    """Tabular Q-learning (Sutton & Barto, section 6.5) on `coarse_state`.

    All sessions' updates of one page are made together: a pair of state and item moves to the mean
    of its targets, by k^-step_power at its k-th update. Epsilon falls from 1 over the first half.

    Args:
        envs: the Shop, or an environment with its observations and items.
        total_steps: transitions to learn from; a million does well.
        discount: gamma, in [0, 1].
        epsilon_end: exploration in the second half.
        step_power: above 0.5 and at most 1, so that the steps fall as convergence needs.
        seed: random seed of the environment and of the exploration; None: the one that the
            environment was made with.

    Raises:
        TypeError: envs is no environment.
        ValueError: an argument is out of range, or the environment's spaces are not the Shop's.
    """
    check_number("discount", discount, 0.0, 1.0)
    check_number("epsilon_end", epsilon_end, 0.0, 1.0)
    check_number("step_power", step_power, 0.0, 1.0)
    sessions, seed = start_sessions(envs, total_steps, seed)
    if len(sessions.actions) != shop.NUM_ITEMS:
        raise ValueError(f"envs: the {shop.NUM_ITEMS} items of the Shop expected as actions")
    rng, n = np.random.default_rng(seed), sessions.num_envs
    q = np.zeros((NUM_COARSE_STATES, shop.NUM_ITEMS))
    updates, flat_q = np.zeros(q.size), q.reshape(-1)
    state = np.zeros(n, np.int64)

    def choose(observations: np.ndarray, share: float) -> np.ndarray:
        state[:] = coarse_state(observations)
        epsilon = 1.0 + min(1.0, 2.0 * share) * (epsilon_end - 1.0)
        anything = rng.integers(0, shop.NUM_ITEMS, n)
        return np.where(rng.random(n) < epsilon, anything, q[state].argmax(axis=1))

    def learn(observations: np.ndarray, items: np.ndarray, step: Step) -> None:
        following = coarse_state(step.next_observation)
        target = step.reward + discount * ~step.terminated * q[following].max(axis=1)
        pair = (state * shop.NUM_ITEMS + items)[step.valid]
        hits = np.bincount(pair, minlength=q.size)
        error = np.bincount(pair, target[step.valid] - flat_q[pair], minlength=q.size)
        hit = np.flatnonzero(hits)
        updates[hit] += 1
        flat_q[hit] += updates[hit] ** -step_power * error[hit] / hits[hit]

    learn_online(sessions, total_steps, choose, learn)
    return lambda observations: q[coarse_state(observations)].argmax(axis=1)
