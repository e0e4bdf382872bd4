"""Q-learning in a table of 160 states: planning without a network."""

from __future__ import annotations

import numpy as np

from dqnrec_lite._checks import check_number, check_whole
from dqnrec_lite.baselines.rules import passed_over_premium, rested_interest
from dqnrec_lite.encoding import BUY, split_vectors
from dqnrec_lite.envs import shop
from dqnrec_lite.evaluation import Policy
from dqnrec_lite.progress import RecentReturn, progress_bar

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
    envs: shop.ShopVectorEnv,
    total_steps: int,
    discount: float = 0.97,
    epsilon_end: float = 0.05,
    step_power: float = 0.9,
    seed: int = 0,
) -> Policy:
    """Tabular Q-learning (Sutton & Barto, section 6.5) on `coarse_state`.

    All sessions' updates of one page are made together: a pair of state and item moves to the mean
    of its targets, by k^-step_power at its k-th update. Epsilon falls from 1 over the first half.

    Args:
        envs: the Shop.
        total_steps: transitions to learn from; a million does well.
        discount: gamma, in [0, 1].
        epsilon_end: exploration in the second half.
        step_power: above 0.5 and at most 1, so that the steps fall as convergence needs.
        seed: of the environment and the exploration.
    """
    _check_training(envs, total_steps, seed)
    check_number("discount", discount, 0.0, 1.0)
    check_number("epsilon_end", epsilon_end, 0.0, 1.0)
    check_number("step_power", step_power, 0.0, 1.0)
    rng, n = np.random.default_rng(seed), envs.num_envs
    q = np.zeros((NUM_COARSE_STATES, shop.NUM_ITEMS))
    updates = np.zeros(q.size)
    recent, flat_q = RecentReturn(n), q.reshape(-1)
    state = coarse_state(envs.reset(seed=seed)[0])
    with progress_bar(total=total_steps, unit="step") as bar:
        for done in range(0, total_steps, n):
            epsilon = 1.0 + min(1.0, 2.0 * done / total_steps) * (epsilon_end - 1.0)
            anything = rng.integers(0, shop.NUM_ITEMS, n)
            items = np.where(rng.random(n) < epsilon, anything, q[state].argmax(axis=1))
            observations, reward, terminated, truncated, info = envs.step(items)
            following = coarse_state(info.get("final_obs", observations))  # not the next customer's
            target = reward + discount * ~terminated * q[following].max(axis=1)
            pair = state * shop.NUM_ITEMS + items
            hits = np.bincount(pair, minlength=q.size)
            error = np.bincount(pair, target - flat_q[pair], minlength=q.size)
            hit = np.flatnonzero(hits)
            updates[hit] += 1
            flat_q[hit] += updates[hit] ** -step_power * error[hit] / hits[hit]
            state = coarse_state(observations)
            recent.add(reward, terminated | truncated)
            bar.set_postfix_str(str(recent), refresh=False)
            bar.update(min(n, total_steps - bar.n))
    return lambda observations: q[coarse_state(observations)].argmax(axis=1)


def _check_training(envs: shop.ShopVectorEnv, total_steps: int, seed: int) -> None:
    if not all(hasattr(envs, name) for name in ("num_envs", "reset", "step")):
        raise TypeError(f"envs: the Shop expected, got {type(envs).__name__}")
    check_whole("total_steps", total_steps)
    check_whole("seed", seed, 0)
