"""Random finite decision processes: exact solutions agree, and the trained network is near them.

Each process has up to 50 states, one-hot observations of 50 numbers and 4 actions, so that one
compiled program serves all of one discount. Three kinds: sessions that end (terminal states),
sessions that are cut off (a time limit; the optimum knows none), and both.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from scipy.optimize import linprog

from dqnrec_lite import DQN, DQNConfig, FiniteMDP, policy_value, value_iteration
from dqnrec_lite.envs.tabular import TabularVectorEnv

STATES, ACTIONS, EVENTS = 50, 4, 2
DISCOUNTS = (0.5, 0.8, 0.9, 0.95)
KINDS = ("ends", "is cut off", "both")
SEEDS = range(3)
PROBLEMS = [(kind, discount, seed) for discount in DISCOUNTS for kind in KINDS for seed in SEEDS]


class Problem(NamedTuple):
    mdp: FiniteMDP
    discount: float
    limit: int | None  # steps


@cache
def random_problem(kind: str, discount: float, seed: int) -> Problem:
    """Two or three successors for each state and action; most actions pay little, a few much."""
    rng = np.random.default_rng([KINDS.index(kind), int(100 * discount), seed])
    states = int(rng.integers(5, STATES + 1))
    terminal = np.zeros(states, bool)
    if kind != "is cut off":
        terminal[: rng.integers(1, 3)] = True
    joint = np.zeros((states, ACTIONS, EVENTS, states))
    for row in joint.reshape(-1, EVENTS * states):
        successors = rng.choice(len(row), rng.integers(2, 4), replace=False)
        row[successors] = rng.dirichlet(np.ones(len(successors)))
    joint[terminal] = 0.0
    joint[terminal, :, 0, terminal] = 1.0
    paid = rng.random((states, ACTIONS, 1)) ** 4 + rng.uniform(-0.2, 0.2, (1, 1, EVENTS))
    paid[terminal] = 0.0
    start = rng.dirichlet(np.ones(states)) * ~terminal
    mdp = FiniteMDP(joint, paid, start / start.sum(), terminal, np.eye(states, STATES, dtype="f"))
    return Problem(mdp, discount, None if kind == "ends" else int(rng.integers(3, 12)))


def solved(problem: Problem, policy: np.ndarray) -> np.ndarray:
    """Values of a policy, (S, A) probabilities: v = r + discount P v, solved for v."""
    transition = np.einsum("sa,saet->st", policy, problem.mdp.joint)
    reward = np.einsum("sa,saet,sae->s", policy, problem.mdp.joint, problem.mdp.event_reward)
    return np.linalg.solve(np.eye(len(reward)) - problem.discount * transition, reward)


def best_by_policy_iteration(problem: Problem) -> np.ndarray:
    """Optimal state values (Sutton & Barto, section 4.3), from the joint table alone."""
    joint, paid = problem.mdp.joint, problem.mdp.event_reward
    policy = np.zeros(len(joint), int)
    while True:
        value = solved(problem, np.eye(ACTIONS)[policy])
        q = np.einsum("saet,saet->sa", joint, paid[..., None] + problem.discount * value)
        better = q.max(axis=1) > value + 1e-12
        if not better.any():
            return value
        policy = np.where(better, q.argmax(axis=1), policy)


def best_by_linear_programme(problem: Problem) -> np.ndarray:
    """The least v with v >= r + discount P v for every action (Puterman, section 6.9)."""
    mdp = problem.mdp
    states = len(mdp.start)
    rows = problem.discount * mdp.joint.sum(axis=2) - np.eye(states)[:, None, :]
    reward = np.einsum("saet,sae->sa", mdp.joint, mdp.event_reward)
    return linprog(
        np.ones(states), rows.reshape(-1, states), -reward.reshape(-1), bounds=(None, None)
    ).x


@pytest.mark.parametrize(("kind", "discount", "seed"), PROBLEMS)
def test_exact_values_agree_with_policy_iteration_linear_programme_and_linear_solve(
    kind, discount, seed
):
    problem = random_problem(kind, discount, seed)
    q = value_iteration(problem.mdp, discount)
    best = best_by_policy_iteration(problem)
    np.testing.assert_allclose(q.max(axis=1), best, rtol=0, atol=1e-8)
    np.testing.assert_allclose(best_by_linear_programme(problem), best, rtol=0, atol=1e-8)
    for policy in (
        np.random.default_rng(seed).dirichlet(np.ones(ACTIONS), len(best)),
        np.eye(ACTIONS)[q.argmax(axis=1)],
    ):
        value = policy_value(problem.mdp, policy, discount)
        np.testing.assert_allclose(value, solved(problem, policy), rtol=0, atol=1e-8)


@cache
def compiled_agent(discount: float) -> DQN:
    problem = random_problem(KINDS[0], discount, 0)
    envs = TabularVectorEnv(problem.mdp, 1)
    config = DQNConfig(
        discount=discount,
        hidden_sizes=(64,),
        batch_size=256,
        buffer_size=50_000,
        updates_per_transition=0.05,
        target_sync_every=100,
        epsilon_end=0.3,
        learning_rate=3e-3,
        learning_rate_end=0.0,
    )
    return DQN(envs.single_observation_space, envs.single_action_space, config)


def as_new(agent: DQN) -> DQN:
    """The agent as it was made, but with its compiled program."""
    fresh = DQN(agent.observation_space, agent.action_space, agent.config)
    for mine, first in zip(agent.variables(), fresh.variables(), strict=True):
        mine.assign(first)
    agent.replay, agent.rng = fresh.replay, fresh.rng
    agent.transitions, agent.updates, agent.owed = 0, 0, 0.0
    return agent


@pytest.mark.parametrize("discount", DISCOUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_trained_network_reaches_98_percent_of_the_optimum(kind, discount):
    """0 % is the random policy, so that what comes by itself counts for nothing."""
    problem = random_problem(kind, discount, seed=0)
    mdp, states = problem.mdp, len(problem.mdp.start)
    agent = as_new(compiled_agent(discount))
    agent.learn(TabularVectorEnv(mdp, 128, page_limit=problem.limit), 50_000)
    greedy = np.eye(ACTIONS)[agent.predict(mdp.observations)]
    anything = np.full((states, ACTIONS), 1 / ACTIONS)
    zero, ours = (mdp.start @ solved(problem, policy) for policy in (anything, greedy))
    best = mdp.start @ best_by_policy_iteration(problem)
    share = (ours - zero) / (best - zero)
    print(kind, discount, states, problem.limit, f"{share:.4f}")
    assert share >= 0.98
