"""Exact solutions of finite decision processes, and sessions drawn from the same tables."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from dqnrec_lite import FiniteMDP, policy_value, value_iteration
from dqnrec_lite.envs.tabular import TabularVectorEnv


def random_mdp(seed: int, states: int = 4, actions: int = 3, ends: bool = True) -> FiniteMDP:
    """Random tables; with `ends` the last state is terminal, and every step may lead there."""
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.full(2 * states, 0.4), (states, actions)).reshape(
        states, actions, 2, states
    )
    reward = rng.normal(size=(states, actions, 2))
    terminal = np.zeros(states, bool)
    if ends:
        joint = 0.9 * joint
        joint[..., 0, -1] += 0.1
        joint[-1], reward[-1], terminal[-1] = 0.0, 0.0, True
        joint[-1, :, 0, -1] = 1.0
    start = rng.dirichlet(np.ones(states))
    return FiniteMDP(joint, reward, start, terminal, np.eye(states, dtype=np.float32))


def two_state_loop(reward: float) -> FiniteMDP:
    """Action 0 stays in state 0 for ever and is paid each time; action 1 ends the session."""
    joint = np.zeros((2, 2, 1, 2))
    joint[0, 0, 0, 0] = joint[0, 1, 0, 1] = joint[1, :, 0, 1] = 1.0
    paid = np.array([[[reward], [0.0]], [[0.0], [0.0]]])
    return FiniteMDP(joint, paid, np.array([1.0, 0.0]), np.array([False, True]), np.eye(2))


@pytest.mark.parametrize("discount", [0.0, 0.3, 0.9, 0.99, 1.0])
def test_value_iteration_solves_the_bellman_equation_and_no_policy_is_better(discount):
    for seed in range(6):
        mdp = random_mdp(seed)
        q = value_iteration(mdp, discount)
        right_side = np.einsum("sat,t->sa", mdp.P, q.max(axis=1)) * discount + mdp.R
        assert np.abs(right_side - q).max() < 1e-10
        values = np.array([policy_value(mdp, np.array(p), discount) for p in all_policies(mdp)])
        np.testing.assert_allclose(q.max(axis=1), values.max(axis=0), atol=1e-8)
        greedy = policy_value(mdp, q.argmax(axis=1), discount)
        np.testing.assert_allclose(greedy, q.max(axis=1), atol=1e-8)


def all_policies(mdp: FiniteMDP) -> list[tuple[int, ...]]:
    states, actions = mdp.R.shape
    return list(product(range(actions), repeat=states))


@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
def test_a_tolerance_of_0_ends_at_a_fixed_point(discount):
    for seed in range(6):
        mdp = random_mdp(seed, states=8)
        q = value_iteration(mdp, discount, tolerance=0.0)
        np.testing.assert_allclose(q, value_iteration(mdp, discount), atol=1e-9)


def test_tables_can_be_compared_and_hashed():
    mdp = random_mdp(0)
    assert mdp == mdp
    assert mdp != random_mdp(0)
    assert len({mdp, mdp}) == 1


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.95])
def test_policy_value_agrees_with_repeated_expectation(discount):
    for seed in range(5):
        mdp = random_mdp(seed, ends=bool(seed % 2))
        policy = np.random.default_rng(seed).dirichlet(np.ones(3), 4)
        value = np.zeros(4)
        for _ in range(1500):
            value = (policy * (mdp.R + discount * mdp.P @ value)).sum(axis=1)
        np.testing.assert_allclose(policy_value(mdp, policy, discount), value, atol=1e-9)


def test_policy_value_takes_actions_or_probabilities_alike():
    mdp = random_mdp(1)
    actions = np.array([0, 2, 1, 0])
    np.testing.assert_array_equal(
        policy_value(mdp, actions, 0.9), policy_value(mdp, np.eye(3)[actions], 0.9)
    )


def test_staying_for_ever_at_a_paying_page_is_worth_the_geometric_sum():
    mdp = two_state_loop(2.0)
    assert value_iteration(mdp, 0.9)[0, 0] == pytest.approx(20.0)
    np.testing.assert_allclose(policy_value(mdp, np.array([0, 0]), 0.9), [20.0, 0.0])


def test_discount_1_without_an_end_is_refused():
    mdp = two_state_loop(2.0)
    with pytest.raises(ValueError, match="residual"):
        value_iteration(mdp, 1.0)
    with pytest.raises(ValueError):  # noqa: PT011  LAPACK words it
        policy_value(mdp, np.array([0, 0]), 1.0)
    np.testing.assert_allclose(policy_value(mdp, np.array([1, 0]), 1.0), [0.0, 0.0])


@pytest.mark.parametrize("discount", [-0.1, 1.1, np.nan])
def test_a_discount_outside_0_to_1_is_refused_by_name(discount):
    mdp = random_mdp(0)
    with pytest.raises(ValueError, match="discount="):
        value_iteration(mdp, discount)
    with pytest.raises(ValueError, match="discount="):
        policy_value(mdp, np.zeros(4, int), discount)


@pytest.mark.parametrize(
    "policy",
    [
        np.zeros(3, int),
        np.array([0, 1, 2, 3]),
        np.array([0, 1, 2, -1]),
        np.zeros(4),
        np.full((4, 3), 0.5),
        np.tile([1.5, -0.5, 0.0], (4, 1)),
        np.full((4, 3), np.nan),
    ],
)
def test_a_policy_that_is_none_is_refused(policy):
    with pytest.raises(ValueError, match="policy"):
        policy_value(random_mdp(0), policy, 0.9)


def test_tables_that_are_no_decision_process_are_refused_by_name():
    mdp = random_mdp(0)
    wrong = mdp.joint.copy()
    wrong[0, 0, 0, 0] += 0.1
    negative = mdp.joint.copy()
    negative[0, 0, 0, :2] = [-0.1, negative[0, 0, 0, :2].sum() + 0.1]
    for name, array in [
        ("joint", wrong),
        ("joint", negative),
        ("joint", mdp.joint[:, :2]),
        ("start", np.full(4, 0.3)),
        ("start", np.ones(3) / 3),
        ("terminal", np.zeros(5, bool)),
        ("observations", np.eye(5)),
    ]:
        with pytest.raises(ValueError, match=f"^{name}"):
            replace(mdp, **{name: array})


def test_reachable_states_are_those_that_a_walk_can_visit():
    joint = np.zeros((4, 1, 1, 4))
    joint[0, 0, 0, 1] = joint[1, 0, 0, 3] = joint[2, 0, 0, 0] = joint[3, 0, 0, 3] = 1.0
    mdp = FiniteMDP(joint, np.zeros((4, 1, 1)), np.eye(4)[0], np.arange(4) == 3, np.eye(4))
    assert mdp.reachable.tolist() == [True, True, False, False]


def test_one_step_from_each_state_falls_as_the_table_says():
    mdp, lanes = random_mdp(3), 20_000
    envs = TabularVectorEnv(mdp, lanes, seed=1)
    envs.reset(seed=1)
    for state, action in product(range(3), range(3)):
        envs.state = np.full(lanes, state)
        _, reward, _, _, info = envs.step(np.full(lanes, action))
        seen = np.bincount(info["event"] * 4 + info["state"], minlength=8)
        expected = mdp.joint[state, action].ravel() * lanes
        enough = expected > 5
        chi_square = ((seen - expected)[enough] ** 2 / expected[enough]).sum()
        assert stats.chi2.sf(chi_square, enough.sum() - 1) > 1e-4
        np.testing.assert_array_equal(reward, mdp.event_reward[state, action, info["event"]])


def test_first_states_fall_as_the_start_says():
    mdp = random_mdp(2)
    envs = TabularVectorEnv(mdp, 20_000)
    seen = np.bincount(envs.reset(seed=5)[1]["state"], minlength=4)
    assert stats.chisquare(seen, mdp.start * 20_000).pvalue > 1e-4


def test_a_session_ends_by_termination_or_is_cut_at_the_page_limit_never_both():
    mdp = random_mdp(4)
    envs = TabularVectorEnv(mdp, 200, seed=0, page_limit=7)
    envs.reset(seed=0)
    pages = np.zeros(200, int)
    ends = np.zeros(2, int)
    for _ in range(60):
        observation, _, terminated, truncated, info = envs.step(np.zeros(200, int))
        pages += 1
        np.testing.assert_array_equal(terminated, mdp.terminal[info["state"]])
        np.testing.assert_array_equal(truncated, ~terminated & (pages == 7))
        ended = terminated | truncated
        if ended.any():
            np.testing.assert_array_equal(info["_final_obs"], ended)
            final = mdp.observations[info["state"]]
            np.testing.assert_array_equal(info["final_obs"][ended], final[ended])
        np.testing.assert_array_equal(observation, mdp.observations[envs.state])
        pages[ended] = 0
        ends += terminated.sum(), truncated.sum()
    assert (ends > 0).all()


@pytest.mark.parametrize("arguments", [{"num_envs": 0}, {"page_limit": 0}, {"page_limit": -3}])
def test_impossible_arguments_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        TabularVectorEnv(random_mdp(0), **arguments)


def test_a_reset_with_a_seed_leaves_the_seed_that_the_sessions_were_made_with():
    envs = TabularVectorEnv(random_mdp(0), 3, seed=11)
    envs.reset(seed=5)
    assert envs.seed == 11


def test_the_seed_of_the_constructor_counts_until_another_is_given():
    made, reset = (TabularVectorEnv(random_mdp(0), 30, seed=seed) for seed in (11, 0))
    np.testing.assert_array_equal(made.reset()[0], reset.reset(seed=11)[0])
    other = TabularVectorEnv(random_mdp(0), 30, seed=12)
    assert not np.array_equal(reset.reset(seed=11)[0], other.reset()[0])
    assert not np.array_equal(reset.reset(seed=11)[0], reset.reset()[0])


def test_sessions_that_end_together_begin_each_for_itself():
    """Every step ends every session; the first states that follow must be independent draws."""
    joint = np.zeros((3, 1, 1, 3))
    joint[..., 2] = 1.0
    start = np.array([0.5, 0.5, 0.0])
    mdp = FiniteMDP(joint, np.zeros((3, 1, 1)), start, np.arange(3) == 2, np.eye(3, dtype="f"))
    envs = TabularVectorEnv(mdp, 100)
    envs.reset(seed=0)
    for _ in range(20):
        envs.step(np.zeros(100, int))
        assert 20 < (envs.state == 0).sum() < 80


def test_a_terminal_state_that_moves_on_or_pays_is_refused():
    mdp = random_mdp(0)
    moves, paid = mdp.joint.copy(), mdp.event_reward.copy()
    moves[-1, 0, 0, [0, -1]] = [0.1, 0.9]
    paid[-1, 1, 0] = 1.0
    for changes in ({"joint": moves}, {"event_reward": paid}):
        with pytest.raises(ValueError, match="terminal: such states must loop to themselves"):
            replace(mdp, **changes)
    never = mdp.event_reward.copy()
    never[-1, :, 1] = 1.0  # of an event that cannot happen there
    replace(mdp, event_reward=never)
