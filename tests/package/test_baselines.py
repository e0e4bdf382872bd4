"""The opponents of the DQN: honest ones, or beating them means nothing."""

import re
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dqnrec_lite import evaluate, make_shop
from dqnrec_lite.baselines import (
    attentive_policy,
    best_fixed_rule,
    fixed_policy,
    fixed_rules,
    item_to_item_policy,
    most_popular_item,
    online,
    random_policy,
    rules,
    train_linucb,
    train_tabular,
)
from dqnrec_lite.baselines.q_table import NUM_COARSE_STATES, coarse_state
from dqnrec_lite.encoding import BUY, VIEW, encode_history, split_vectors
from dqnrec_lite.envs import shop
from dqnrec_lite.evaluation import paired_difference
from dqnrec_lite.logs.records import record_sessions


def seen(entry: int, items: list[int], events: list[int]) -> np.ndarray:
    return encode_history(entry, items, events, 4, 3, shop.PAGE_LIMIT)[None]


def test_random_shows_every_item_equally_often_and_is_seeded():
    one, two = random_policy(12, 3), random_policy(12, 3)
    items = one(np.zeros((60_000, 45)))
    assert np.array_equal(items, two(np.zeros((60_000, 45))))
    assert 4700 < np.bincount(items).min() <= np.bincount(items).max() < 5300


def test_a_fixed_rule_shows_its_items_in_order_and_then_again():
    """Page by page, in a real session, to lanes at different pages."""
    order, envs = [4, 0, 9], make_shop(40)
    policy = fixed_policy(order)
    observation = envs.reset(seed=0)[0]
    for _ in range(60):
        page = envs.page.copy()
        items = policy(observation)
        np.testing.assert_array_equal(items, np.array(order)[page % 3])
        observation = envs.step(items)[0]
    assert len(np.unique(envs.page)) > 5


@pytest.mark.parametrize("page_limit", [20, 41, 200])
def test_a_fixed_rule_comes_right_with_the_shops_page_limit_and_is_refused_without(page_limit):
    envs, policy = make_shop(40, page_limit=page_limit), fixed_policy([4, 0, 9], page_limit)
    observation = envs.reset(seed=0)[0]
    for _ in range(page_limit + 5):
        items = policy(observation)
        np.testing.assert_array_equal(items, np.array([4, 0, 9])[envs.page % 3])
        observation = envs.step(items)[0]
    with pytest.raises(ValueError, match=f"page_limit={page_limit + 1} expected"):
        evaluate(fixed_policy([4, 0, 9], page_limit + 1), envs, 100)
    with pytest.raises(ValueError, match="page_limit=40 expected"):
        evaluate(fixed_policy([4, 0, 9]), envs, 100)


def test_there_are_768_fixed_rules_each_a_different_cycle():
    rules = list(fixed_rules())
    # 4 of one category (times 3 kinds), 6 pairs (9), 4 triples in 2 orders (27), 6 orders (81)
    assert len(rules) == 4 * 3 + 6 * 9 + 4 * 2 * 27 + 6 * 81 == 768
    for rule in rules:
        categories = [item // 3 for item in rule]
        assert len(set(categories)) == len(categories)
    turned = {min(tuple(rule[i:] + rule[:i]) for i in range(len(rule))) for rule in rules}
    assert len(turned) == 768, "no rule is another one begun elsewhere"


def test_the_best_fixed_rule_is_found_among_others(monkeypatch):
    """Among 32 rules instead of 768; `test_experiments.py` holds the whole search's result."""
    few = [*list(fixed_rules())[::25], [1, 4, 7, 10]]
    monkeypatch.setattr(rules, "fixed_rules", lambda: iter(few))
    found = best_fixed_rule(seed=1, customers=200, finalists=4)
    assert found == best_fixed_rule(seed=1, customers=200, finalists=4)
    envs = make_shop(500)
    means = [evaluate(fixed_policy(rule), envs, 1500, seed=5).mean for rule in few]
    assert means[few.index(found)] > np.sort(means)[-4]


def test_another_seed_shows_other_items_at_random():
    rows = np.zeros((100, 45))
    assert not np.array_equal(random_policy(12, 3)(rows), random_policy(12, 4)(rows))


def test_a_fixed_rule_keeps_its_order_whatever_becomes_of_the_callers_array():
    order = np.array([4, 0, 9])
    policy = fixed_policy(order)
    order[:] = 11
    assert policy(np.zeros((1, 45)))[0] == 4


def test_patience_decides_when_value_follows_premium():
    history = seen(1, [1, 7, 4], [2, 1, 1])
    kinds = [attentive_policy(patience)(history)[0] % 3 for patience in (0.5, 1.0, 5.0)]
    assert kinds == [0, 0, 1]


def test_the_finals_of_the_fixed_rules_are_played_with_other_customers(monkeypatch):
    """Whoever won the heats by luck must win again."""
    played = []

    def watch(policy, envs, episodes, seed=None):
        played.append((episodes, envs.seed if seed is None else seed))
        return evaluate(policy, envs, episodes, seed)

    monkeypatch.setattr(rules, "evaluate", watch)
    monkeypatch.setattr(rules, "fixed_rules", lambda: iter([[0], [1], [4]]))
    best_fixed_rule(seed=6, customers=20, finalists=2)
    assert played == [(20, 6)] * 3 + [(200, 7)] * 2


def test_the_most_popular_item_is_deterministic_and_a_bait():
    popular = [most_popular_item(make_shop(lanes)) for lanes in (1000, 1000, 500)]
    assert popular[0] == popular[1] == popular[2]
    assert "bait" in shop.ITEMS[popular[0]]


def test_the_attentive_rule_follows_the_customer():
    policy = attentive_policy()
    assert policy(seen(2, [], []))[0] == 2 * 3 + 1, "the category of entry, premium first"
    for category in range(4):
        bought = policy(seen(0, [category * 3], [BUY]))[0]
        assert bought // 3 == shop.COMPLEMENT[category], "after a sale its complement"
    away = policy(seen(1, [4, 4], [1, 0]))[0]
    assert away // 3 != 1, "what stood on both last pages rests"
    thrifty = policy(seen(1, [1, 7, 4], [2, 1, 1]))[0]
    assert thrifty % 3 == 0, "value, once premium was passed over"


def test_the_attentive_rule_answers_every_customer_with_an_item_and_never_bait():
    envs = make_shop(200)
    policy, observation = attentive_policy(), envs.reset(seed=0)[0]
    for _ in range(50):
        items = policy(observation)
        assert items.shape == (200,)
        assert items.dtype.kind == "i"
        assert set(items % 3) <= {0, 1}
        assert set(items // 3) <= {0, 1, 2, 3}
        observation = envs.step(items)[0]


class Twelve(VectorEnv):
    """Observations of some size, twelve items, same-step autoreset; the rest is to be written."""

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs, size):
        self.num_envs = num_envs
        self.single_observation_space = gym.spaces.Box(0.0, 10.0, (size,))
        self.single_action_space = gym.spaces.Discrete(12)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)


class TwoArms(Twelve):
    """Item 0 earns the observation's entry, item 1 a half."""

    def __init__(self):
        super().__init__(num_envs=20, size=1)

    def reset(self, seed=None):
        self.rng = np.random.default_rng(seed)
        return self._show(), {}

    def _show(self):
        self.observation = self.rng.random((20, 1)).astype(np.float32)
        return self.observation

    def step(self, items):
        earned = np.where(items == 0, self.observation[:, 0], np.where(items == 1, 0.5, 0.0))
        earned = earned + 0.05 * self.rng.normal(size=20)
        return self._show(), earned, np.zeros(20, bool), np.zeros(20, bool), {}


def test_linucb_learns_which_item_earns_more_for_whom():
    policy = train_linucb(TwoArms(), 6000)
    x = np.linspace(0, 1, 101)[:, None]
    expected = np.where(x[:, 0] > 0.5, 0, 1)
    clear = np.abs(x[:, 0] - 0.5) > 0.05
    np.testing.assert_array_equal(policy(x)[clear], expected[clear])


@pytest.mark.parametrize("train", [train_linucb, train_tabular])
def test_a_wrapped_shop_trains_as_the_shop_itself_does(train):
    observation = make_shop(500).reset(seed=1)[0]
    plain = train(make_shop(20), 2000)(observation)
    wrapped = train(gym.vector.VectorWrapper(make_shop(20)), 2000)(observation)
    np.testing.assert_array_equal(wrapped, plain)
    with pytest.raises(TypeError, match="gymnasium"):
        train("the Shop", 2000)


def test_without_a_seed_each_baseline_takes_the_one_that_its_shop_was_made_with():
    observation = make_shop(500).reset(seed=1)[0]
    for train in (train_linucb, train_tabular, item_to_item_policy):
        given, own, other = (
            train(envs, 1000, **seed)(observation)
            for envs, seed in [
                (make_shop(20), {"seed": 3}),
                (make_shop(20, seed=3), {}),
                (make_shop(20), {}),
            ]
        )
        np.testing.assert_array_equal(own, given)
        assert not np.array_equal(own, other)


def test_linucb_is_ridge_regression_on_what_it_was_shown():
    """Its scores must equal the closed form, item by item."""
    envs = make_shop(50)
    kept = []
    step = envs.step

    def watch(items):
        before = envs.encoder.vectors.copy()
        result = step(items)
        kept.append((before, items, result[1]))
        return result

    envs.step = watch
    policy = train_linucb(envs, 1500, seed=4)
    x, items, reward = (np.concatenate(column) for column in zip(*kept, strict=True))
    x = np.hstack([x, np.ones((len(x), 1))]).astype(float)
    scores = []
    for item in range(12):
        rows = x[items == item]
        gram = rows.T @ rows + np.eye(x.shape[1])
        scores.append(x @ np.linalg.solve(gram, rows.T @ reward[items == item]))
    best = np.array(scores)
    chosen = policy(x[:, :-1])
    np.testing.assert_allclose(best[chosen, np.arange(len(x))], best.max(axis=0), atol=1e-8)


def test_linucb_shows_the_item_of_the_highest_upper_confidence_bound():
    """Page by page, from what it has been shown so far: theta x + alpha sqrt(x' A^-1 x)."""
    envs, alpha = make_shop(6), 0.9
    kept, step = [], envs.step

    def watch(items):
        before = envs.encoder.vectors.copy()
        result = step(items)
        kept.append((np.hstack([before, np.ones((6, 1))]).astype(float), items, result[1]))
        return result

    envs.step = watch
    train_linucb(envs, 300, alpha=alpha, seed=1)
    size = envs.encoder.size + 1
    gram, moment = np.tile(np.eye(size), (12, 1, 1)), np.zeros((12, size))
    for x, items, reward in kept:
        inverse = np.linalg.inv(gram)
        bound = np.array(
            [
                [moment[a] @ inverse[a] @ row + alpha * np.sqrt(row @ inverse[a] @ row)
                 for a in range(12)]
                for row in x
            ]
        )  # fmt: skip
        np.testing.assert_allclose(bound[np.arange(6), items], bound.max(axis=1), atol=1e-9)
        for row, item, paid in zip(x, items, reward, strict=True):
            gram[item] += np.outer(row, row)
            moment[item] += paid * row
    assert len(kept) == 50


def test_the_world_is_worth_planning_for():
    """What the book says of its world: bait sells now, and the rule that thinks earns more."""
    envs = make_shop(500)
    scores = {
        name: evaluate(policy, envs, 2000, seed=6)
        for name, policy in {
            "best-seller": fixed_policy([most_popular_item(make_shop(500))]),
            "random": random_policy(12),
            "attentive": attentive_policy(),
            "a good order": fixed_policy([1, 4, 7, 10]),
        }.items()
    }
    for better, worse in [
        ("random", "best-seller"),
        ("a good order", "random"),
        ("attentive", "a good order"),
    ]:
        assert paired_difference(scores[better], scores[worse])[1][0] > 0


def test_item_to_item_scores_are_cosines_of_looked_at_and_bought():
    """Session by session, in plain loops."""
    policy = item_to_item_policy(make_shop(50), sessions=400, seed=8)
    log = record_sessions(random_policy(12, 8), make_shop(50), 400, 8)
    looked, bought = [set() for _ in range(400)], [set() for _ in range(400)]
    for session, item, event in zip(log.session, log.item, log.event, strict=True):
        if event >= VIEW:
            looked[session].add(item // 3)
        if event == BUY:
            bought[session].add(item)
    similarity = np.zeros((4, 12))
    for c in range(4):
        for i in range(12):
            both = sum(c in one and i in two for one, two in zip(looked, bought, strict=True))
            sizes = sum(c in one for one in looked) * sum(i in two for two in bought)
            similarity[c, i] = both / np.sqrt(sizes)
    for entry in range(4):
        assert policy(seen(entry, [], []))[0] == (similarity[entry] * shop.MARGIN).argmax()
    twice = policy(seen(0, [1, 1], [VIEW, VIEW]))[0]
    assert twice // 3 != 0, "what stood on both last pages rests"
    score = (0.85**2 + 0.85 + 1) * similarity[0] * shop.MARGIN
    assert twice == 3 + score[3:].argmax()


def test_a_coarse_state_tells_interest_last_sale_and_patience():
    rows = {
        "entered by books": seen(2, [], []),
        "entered by audio": seen(3, [], []),
        "bought a book": seen(2, [7], [BUY]),
        "viewed a book": seen(2, [7], [VIEW]),
        "passed over premium": seen(2, [7, 10, 7], [VIEW, VIEW, VIEW]),
    }
    states = {name: int(coarse_state(row)[0]) for name, row in rows.items()}
    assert states["entered by books"] == states["viewed a book"]
    assert len(set(states.values())) == 4
    assert states["entered by books"] // 40 == 2
    assert states["entered by audio"] // 40 == 3
    assert states["bought a book"] % 10 // 2 == 2
    assert [name for name in states if states[name] % 2] == ["passed over premium"]
    envs, rng = make_shop(500), np.random.default_rng(0)
    envs.reset(seed=0)
    for _ in range(60):
        states = coarse_state(envs.step(rng.integers(0, 12, 500))[0])
        assert 0 <= states.min() <= states.max() < NUM_COARSE_STATES


class TwoStates(Twelve):
    """Bought a camera on the last page or not, by turns; the whole game is known exactly.

    In the first state item 0 pays 1 and ends the session with chance a half, all else pays 0.2; in
    the second all pays -0.5. Four pages in ten cut the session off.
    """

    def __init__(self):
        super().__init__(num_envs=50, size=45)

    def reset(self, seed=None):
        self.rng = np.random.default_rng(seed)
        self.second = np.zeros(50, bool)
        return self._show(self.second), {}

    def _show(self, second):
        rows = np.repeat(seen(0, [0], [VIEW]), 50, axis=0)
        rows[second] = seen(0, [0], [BUY])
        return rows

    def step(self, items):
        reward = np.where(self.second, -0.5, np.where(items == 0, 1.0, 0.2))
        ended = (items == 0) & ~self.second & (self.rng.random(50) < 0.5)
        cut = ~ended & (self.rng.random(50) < 0.4)
        following = ~self.second
        final = self._show(following)
        self.second = following & ~(ended | cut)  # a new session begins in the first state
        over = ended | cut
        info = {"final_obs": final, "_final_obs": over} if over.any() else {}
        return self._show(self.second), reward, ended, cut, info


def test_tabular_q_learning_finds_the_exact_values_through_termination_and_truncation(monkeypatch):
    """v1 = max(1 + g v2 / 2, 0.2 + g v2), v2 = -0.5 + g v1; a cut is bootstrapped through."""
    kept = []
    zeros = np.zeros
    monkeypatch.setattr(np, "zeros", lambda *a, **k: kept.append(zeros(*a, **k)) or kept[-1])
    train_tabular(TwoStates(), 100_000, discount=0.8, epsilon_end=0.3, step_power=0.8)
    q = next(array for array in kept if array.shape == (NUM_COARSE_STATES, 12))
    v1 = v2 = 0.0
    for _ in range(500):
        v1, v2 = max(1 + 0.4 * v2, 0.2 + 0.8 * v2), -0.5 + 0.8 * v1
    envs = TwoStates()
    first, second = (int(coarse_state(envs._show(np.full(50, s)))[0]) for s in (False, True))
    assert q[first].max() == pytest.approx(v1, abs=0.03)
    assert q[second].max() == pytest.approx(v2, abs=0.03)
    assert q[first, 1] == pytest.approx(0.2 + 0.8 * v2, abs=0.03)


class OneState(Twelve):
    """One state; item 7 pays 1, all else nothing, and no session ends. Keeps what was shown."""

    def __init__(self):
        super().__init__(num_envs=400, size=45)
        self.shown = []

    def reset(self, seed=None):
        return np.repeat(seen(0, [0], [VIEW]), 400, axis=0), {}

    def step(self, items):
        self.shown.append(items.copy())
        no = np.zeros(400, bool)
        return self.reset()[0], (items == 7).astype(float), no, no, {}


def test_tabular_q_learning_explores_less_and_less_until_half_of_its_time():
    """From 1 to 0.2 in a line: a random item is number 7 once in twelve."""
    envs = OneState()
    train_tabular(envs, 400 * 100, epsilon_end=0.2)
    greedy = np.array([(items == 7).mean() for items in envs.shown])
    epsilon = np.maximum(1.0 - 0.8 * np.arange(100) / 50, 0.2)
    expected = 1.0 - epsilon * 11 / 12
    assert np.abs(greedy[5:] - expected[5:]).max() < 0.12
    assert abs((greedy - expected)[50:].mean()) < 0.01


def test_the_steps_of_tabular_q_learning_fall_with_the_visits_of_the_pair(monkeypatch):
    """A pair visited for the first time is set to its target, however long the others have run."""
    kept = []
    zeros = np.zeros
    monkeypatch.setattr(np, "zeros", lambda *a, **k: kept.append(zeros(*a, **k)) or kept[-1])

    class LateItem(OneState):
        def step(self, items):
            items[:] = 7 if len(self.shown) < 20 else 2  # whatever is asked for
            observations, reward, *rest = super().step(items)
            return observations, np.full_like(reward, 3.0), *rest

    train_tabular(LateItem(), 400 * 21, discount=0.0)
    q = next(array for array in kept if array.shape == (NUM_COARSE_STATES, 12))
    assert q.max(axis=0)[[2, 7]] == pytest.approx([3.0, 3.0])


def test_the_learning_baselines_earn_what_was_measured_on_tuning_seeds():
    """About half the time of the book's study, and no worse than well below its figures."""
    envs = make_shop(1000)
    policies = {
        "item-to-item": item_to_item_policy(make_shop(1000)),
        "tabular": train_tabular(make_shop(256), 1_000_000),
        "LinUCB": train_linucb(make_shop(256), 50_000),
    }
    means = {name: evaluate(p, envs, 2000, seed=50).mean for name, p in policies.items()}
    assert 6.5 < means["item-to-item"] < 8.2
    assert 5.8 < means["tabular"] < 8.2
    assert means["LinUCB"] > 1.5
    again = train_tabular(make_shop(256), 20_000), train_tabular(make_shop(256), 20_000)
    observation = make_shop(500).reset(seed=1)[0]
    np.testing.assert_array_equal(again[0](observation), again[1](observation))


@pytest.mark.parametrize("train", [train_linucb, train_tabular])
def test_every_training_call_shows_steps_speed_recent_return_and_time_left(
    train, capfd, monkeypatch
):
    monkeypatch.delenv("TQDM_DISABLE")
    monkeypatch.setenv("COLUMNS", "120")
    every_step = partial(online.tqdm, mininterval=0, miniters=1)  # however fast it trains
    monkeypatch.setattr(online, "tqdm", every_step)
    train(make_shop(32), 3000)
    lines = capfd.readouterr().err.split("\r")
    pattern = r"\d+/3000 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+(step/s|s/step), return -?[\d.]+"
    assert any(re.search(pattern, line) for line in lines), lines[-3:]


def test_the_parts_of_the_vector_are_what_was_seen():
    parts = split_vectors(seen(1, [3, 8], [BUY, VIEW]), 4, 3)
    assert parts.by_category[0, 1, VIEW] == pytest.approx(0.85**2)
    assert parts.by_category[0, 1, BUY] == pytest.approx(0.85)
    assert parts.by_kind[0, 2, VIEW] == 1
    assert parts.by_kind[0, 0, BUY] == pytest.approx(0.85)
    np.testing.assert_allclose(parts.bought[0], [0, 0.25, 0, 0])
    np.testing.assert_array_equal(parts.last_shown[0].argmax(axis=1), [2, 1])
    assert parts.last_event[0].argmax() == VIEW
    assert parts.page[0] == pytest.approx(2 / 40)
