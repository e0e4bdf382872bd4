"""The Shop: one world in two views, honest about what it hides, and reproducible."""

import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv
from scipy import stats

from dqnrec_lite import make_shop
from dqnrec_lite.encoding import BUY, CART, VIEW, encode_history
from dqnrec_lite.envs import shop
from dqnrec_lite.envs.shop import FUNNEL, LEAVE, NUM_ITEMS, ShopEnv, _uniforms
from dqnrec_lite.rewards import RewardWeights

IDS = ("dqnrec_lite/Shop-v0", "dqnrec_lite/PocketShop-v0")


def random_items(rng: np.random.Generator, envs: VectorEnv) -> np.ndarray:
    return rng.integers(0, NUM_ITEMS, envs.num_envs)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.filterwarnings("error")
def test_the_single_environments_pass_gymnasiums_own_check(name):
    check_env(gym.make(name, page_limit=20).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("name", IDS)
def test_the_vector_environments_pass_the_same_check_in_vector_form(name):
    """Gymnasium has no checker for vector environments: spaces, types, shapes, seeding, restart."""
    envs, twin = (gym.make_vec(name, num_envs=16, page_limit=9) for _ in range(2))
    assert envs.num_envs == 16
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert envs.observation_space.shape == (16, *envs.single_observation_space.shape)
    assert envs.action_space.shape == (16,)
    for seed in (0, 7):
        first, info = envs.reset(seed=seed)
        assert isinstance(info, dict)
        np.testing.assert_array_equal(first, twin.reset(seed=seed)[0])
        envs.action_space.seed(seed)
        ends = 0
        for _ in range(30):
            actions = envs.action_space.sample()
            step, again = envs.step(actions), twin.step(actions)
            observation, reward, terminated, truncated, info = step
            assert envs.observation_space.contains(observation)
            assert (reward.shape, reward.dtype) == ((16,), np.float64)
            assert terminated.shape == truncated.shape == (16,)
            assert terminated.dtype == truncated.dtype == bool
            assert not (terminated & truncated).any()
            for ours, theirs in zip(step[:4], again[:4], strict=True):
                np.testing.assert_array_equal(ours, theirs)
            ended = terminated | truncated
            ends += ended.sum()
            assert ("final_obs" in info) == ended.any()
            if ended.any():
                np.testing.assert_array_equal(info["_final_obs"], ended)
                assert envs.observation_space.contains(info["final_obs"])
                same = (info["final_obs"] == observation).all(axis=1)
                np.testing.assert_array_equal(same, ~ended)
        assert ends > 16
    assert not np.array_equal(envs.reset(seed=0)[0], envs.reset(seed=1)[0])
    envs.close()


def test_what_a_step_returns_is_not_written_over_by_the_next():
    envs, rng = make_shop(8, seed=0), np.random.default_rng(0)
    kept = [envs.reset(seed=0)[0]]
    copies = [kept[0].copy()]
    for _ in range(20):
        observation, *_, info = envs.step(random_items(rng, envs))
        new = [observation, *([info["final_obs"]] if "final_obs" in info else [])]
        kept += new
        copies += [array.copy() for array in new]
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def play_single(env: ShopEnv, seed: int, items: np.ndarray) -> list[tuple]:
    """(observation acted on, reward, terminated, truncated, event, successor) of each page."""
    rows, observation = [], env.reset(seed=seed)[0]
    for item in items:
        successor, reward, terminated, truncated, info = env.step(item)
        rows.append((observation, reward, terminated, truncated, info["event"], successor))
        observation = env.reset()[0] if terminated or truncated else successor
    return rows


def play_vector(envs: VectorEnv, seed, items: np.ndarray) -> list[list[tuple]]:
    """The same of each lane; items (pages, lanes)."""
    lanes, observation = [[] for _ in range(envs.num_envs)], envs.reset(seed=seed)[0]
    for row in items:
        following, reward, terminated, truncated, info = envs.step(row)
        for i, lane in enumerate(lanes):
            over = terminated[i] or truncated[i]
            successor = info["final_obs"][i] if over else following[i]
            events = info["event"][i]
            lane.append((observation[i], reward[i], terminated[i], truncated[i], events, successor))
        observation = following
    return lanes


def assert_same_play(ours: list[tuple], theirs: list[tuple]) -> None:
    for page, other in zip(ours, theirs, strict=True):
        assert page[1:5] == other[1:5]
        np.testing.assert_array_equal(page[0], other[0])
        np.testing.assert_array_equal(page[5], other[5])


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_single_and_vector_views_give_the_same_sessions(seed):
    items = np.random.default_rng(seed).integers(0, NUM_ITEMS, (150, 5))
    single = play_single(ShopEnv(page_limit=8), seed, items[:, 0])
    lanes = play_vector(make_shop(5, page_limit=8), seed, items)
    assert_same_play(single, lanes[0])
    assert sum(page[2] for page in single) > 5, "no customer left"
    assert sum(page[3] for page in single) > 1, "no session was cut"


def test_a_list_of_seeds_gives_each_lane_the_sessions_of_its_own_seed():
    seeds = [3, 99, 3, 0]
    items = np.random.default_rng(0).integers(0, NUM_ITEMS, (80, 4))
    lanes = play_vector(make_shop(4), seeds, items)
    for lane, (seed, column) in enumerate(zip(seeds, items.T, strict=True)):
        assert_same_play(play_single(ShopEnv(), seed, column), lanes[lane])


def test_the_seed_of_the_constructor_counts_until_another_is_given():
    made, reset = make_shop(6, seed=42), make_shop(6, seed=0)
    np.testing.assert_array_equal(made.reset()[0], reset.reset(seed=42)[0])
    np.testing.assert_array_equal(ShopEnv(seed=42).reset()[0], ShopEnv().reset(seed=42)[0])
    assert reset.seed == 0


def test_lanes_sessions_and_seeds_differ():
    envs = make_shop(400)
    first = envs.reset(seed=0)[0]
    types = envs.customer_type.copy()
    assert 20 <= len(np.unique(types)) <= 24
    envs.reset()
    assert 0.02 < (types == envs.customer_type).mean() < 0.15  # by chance, about 0.06
    assert 0.15 < (first == envs.reset(seed=1)[0]).all(axis=1).mean() < 0.4  # 4 entries only


def test_equal_histories_look_equal_whatever_the_customer_hides():
    envs = make_shop(20_000, seed=5)
    observation = envs.reset(seed=5)[0]
    entry = observation[:, : 4 * 4].reshape(-1, 4, 4)[:, :, VIEW].argmax(axis=1)
    alive = np.ones(20_000, bool)
    events = []
    for item in (4, 1, 4):
        observation, _, terminated, truncated, info = envs.step(np.full(20_000, item))
        events.append(info["event"])
        alive &= ~(terminated | truncated)
    history = np.stack([entry, *events], axis=1)[alive]
    groups, member = np.unique(history, axis=0, return_inverse=True)
    hidden = np.column_stack([envs.customer_type, envs.needs, envs.satisfaction])[alive]
    compared = 0
    for group in range(len(groups)):
        rows = observation[alive][member.ravel() == group]
        assert (rows == rows[0]).all()
        compared += len(np.unique(hidden[member.ravel() == group], axis=0)) > 5
    assert compared > 50


def test_the_observation_is_the_encoding_of_what_the_shop_saw_and_nothing_else():
    envs, rng = make_shop(50, seed=1), np.random.default_rng(1)
    observation = envs.reset(seed=1)[0]
    histories = [([], []) for _ in range(50)]
    entry = observation[:, : 4 * 4].reshape(-1, 4, 4)[:, :, VIEW].argmax(axis=1)
    for _ in range(60):
        items = random_items(rng, envs)
        observation, _, terminated, truncated, info = envs.step(items)
        over = terminated | truncated
        for i, (shown, events) in enumerate(histories):
            shown.append(int(items[i]))
            events.append(int(info["event"][i]))
            seen = info["final_obs"][i] if over[i] else observation[i]
            expected = encode_history(int(entry[i]), shown, events, 4, 3, shop.PAGE_LIMIT)
            np.testing.assert_allclose(seen, expected, atol=2e-6)
            if over[i]:
                shown.clear()
                events.clear()
                first = observation[i, : 4 * 4].reshape(4, 4)
                entry[i] = first[:, VIEW].argmax()
                assert observation[i].sum() == 1 == first[entry[i], VIEW]


def test_info_tells_of_the_page_just_shown_and_of_the_customer_who_saw_it():
    """Of the leaving customer too, not of the one who takes the lane."""
    envs, rng = make_shop(50, page_limit=5), np.random.default_rng(0)
    assert envs.reset(seed=0)[1] == {}
    ends = 0
    for _ in range(20):
        before = envs.page.copy(), envs.customer_type.copy(), envs.satisfaction.copy()
        items = random_items(rng, envs)
        _, _, terminated, truncated, info = envs.step(items)
        np.testing.assert_array_equal(info["page"], before[0])
        np.testing.assert_array_equal(info["customer_type"], before[1])
        moved = info["satisfaction"] - before[2]
        change = shop.CHANGE[info["event"], items % 3]
        assert ((moved == 0) | (moved == change) | (info["satisfaction"] % 6 == 0)).all()
        stays = ~(terminated | truncated)
        np.testing.assert_array_equal(info["satisfaction"][stays], envs.satisfaction[stays])
        ends += (~stays).sum()
        assert set(info) - {"final_obs", "_final_obs"} == {
            "event",
            "page",
            "customer_type",
            "satisfaction",
        }
    assert ends > 100


def test_chances_lie_in_0_to_1_and_the_funnel_narrows():
    assert FUNNEL.shape == (24, 2, 3, 7, 12, 3)
    for chances in (FUNNEL, LEAVE, shop.CHANCE, shop.TYPE_SHARE):
        assert (chances >= 0).all()
        assert (chances <= 1).all()
    assert (np.diff(FUNNEL, axis=-1) <= 0).all(), "a purchase follows a cart follows a view"
    assert shop.TYPE_SHARE.sum() == pytest.approx(1.0)
    assert (np.diff(LEAVE) < 0).all(), "satisfaction drives staying"


def test_one_page_of_the_funnel_by_hand():
    """Favourite cameras, thrifty, in need, fresh, satisfaction 3; the value camera."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    kind = next(i for i, t in enumerate(shop.TYPES.tolist()) if t == [0, 1, 1])
    view = sigmoid(-0.6 + 1.8 + 2.0)
    cart = view * sigmoid(-2.5 + 0.4 + 4.0 + 0.8)
    buy = cart * sigmoid(-0.3 + 2.0 + 0.8)
    np.testing.assert_allclose(FUNNEL[kind, 1, 0, 3, 0], [view, cart, buy])


@pytest.fixture(scope="module")
def played():
    """100,000 pages of random items, with the hidden state before and after each."""
    envs, rng = make_shop(2000, seed=3), np.random.default_rng(3)
    envs.reset(seed=3)
    pages = []
    for _ in range(50):
        items = random_items(rng, envs)
        hidden = {
            "item": items,
            "type": envs.customer_type.copy(),
            "needs": envs.needs.copy(),
            "level": envs.satisfaction.copy(),
            "tired": (envs.last_shown == items // 3).sum(axis=0),
            "page": envs.page.copy(),
        }
        _, reward, terminated, truncated, info = envs.step(items)
        hidden |= {"reward": reward, "event": info["event"], "left": terminated, "cut": truncated}
        hidden |= {"next_level": envs.satisfaction.copy(), "next_needs": envs.needs.copy()}
        pages.append(hidden)
    return {name: np.concatenate([page[name] for page in pages]) for name in pages[0]}


def test_events_fall_as_the_funnel_says(played):
    pages = np.arange(len(played["item"]))
    needed = played["needs"][pages, played["item"] // 3].astype(int)
    cell = played["type"], needed, played["tired"], played["level"], played["item"]
    for step, event in enumerate((VIEW, CART, BUY)):
        chance = FUNNEL[cell][:, step]
        reached = played["event"] >= event
        spread = np.sqrt((chance * (1 - chance)).sum())
        assert abs(reached.sum() - chance.sum()) < 4 * spread
        for tenth in range(10):  # well spread over small and large chances too
            rows = (chance >= tenth / 10) & (chance < (tenth + 1) / 10)
            spread = np.sqrt((chance[rows] * (1 - chance[rows])).sum())
            assert abs(reached[rows].sum() - chance[rows].sum()) <= 4.5 * spread + 3


def test_customers_leave_as_their_satisfaction_says(played):
    stays = ~played["left"] & ~played["cut"]
    moved = played["next_level"][stays] - played["level"][stays]
    assert set(np.unique(moved)) <= {-2, -1, 0, 1}
    assert played["level"].min() >= 0
    assert played["level"].max() <= 6
    assert set(np.unique(played["level"])) == set(range(7))
    # satisfaction after the event decides; average over what the tables say about it
    change = shop.CHANGE[played["event"], played["item"] % 3]
    chance = shop.CHANCE[played["event"], played["item"] % 3, played["tired"]]
    then = np.clip(played["level"] + change, 0, 6)
    leaves = chance * LEAVE[then] + (1 - chance) * LEAVE[played["level"]]
    spread = np.sqrt((leaves * (1 - leaves)).sum())
    assert abs(played["left"].sum() - leaves.sum()) < 4 * spread


def test_a_purchase_ends_the_need_and_raises_the_complementary_one(played):
    stays = ~played["left"] & ~played["cut"]
    category = played["item"] // 3
    favourite = shop.TYPES[played["type"], 0]
    complement = shop.COMPLEMENT[category]
    bought = stays & (played["event"] == BUY)
    other = bought & (favourite != category)
    assert other.sum() > 200
    assert not played["next_needs"][other, category[other]].any()
    absent = ~played["needs"][np.arange(len(complement)), complement]
    rows = bought & absent & (favourite != complement)
    raised = played["next_needs"][rows, complement[rows]]
    assert stats.binomtest(int(raised.sum()), len(raised), 0.8).pvalue > 1e-4
    quiet = stays & (played["event"] != BUY)
    kept = played["next_needs"] == played["needs"]
    assert (kept | (favourite[:, None] == np.arange(4)))[quiet].all()


def test_only_sales_pay_and_they_pay_the_margin(played):
    expected = np.where(played["event"] == BUY, shop.MARGIN[played["item"]], 0.0)
    np.testing.assert_array_equal(played["reward"], expected)


def test_other_weights_pay_for_other_things():
    items = np.zeros(300, int)
    plain, views = make_shop(300), make_shop(300, weights=RewardWeights(view=1.0, margin=0.0))
    plain.reset(seed=0)
    views.reset(seed=0)
    for _ in range(5):
        info = plain.step(items)[-1]
        np.testing.assert_array_equal(views.step(items)[1], info["event"] >= VIEW)


def test_a_customer_leaving_is_termination_and_the_page_limit_truncation(played):
    assert not (played["left"] & played["cut"]).any()
    assert (played["page"][played["cut"]] == shop.PAGE_LIMIT - 1).all()
    last_page = played["page"] == shop.PAGE_LIMIT - 1
    assert (played["left"] | played["cut"])[last_page].all()
    short = make_shop(500, page_limit=1)
    short.reset(seed=0)
    _, _, terminated, truncated, _ = short.step(np.zeros(500, int))
    np.testing.assert_array_equal(truncated, ~terminated)
    assert 0 < terminated.sum() < 250


def test_first_customers_are_of_the_stated_types_with_the_stated_needs():
    envs = make_shop(40_000)
    observation = envs.reset(seed=9)[0]
    seen = np.bincount(envs.customer_type, minlength=24)
    assert stats.chisquare(seen, shop.TYPE_SHARE * 40_000).pvalue > 1e-4
    favourite, second = shop.TYPES[envs.customer_type, :2].T
    need = envs.needs
    is_favourite = favourite[:, None] == np.arange(4)
    assert stats.binomtest(int(need[is_favourite].sum()), 40_000, 0.7).pvalue > 1e-4
    assert stats.binomtest(int(need[~is_favourite].sum()), 120_000, 0.1).pvalue > 1e-4
    entry = observation[:, :16].reshape(-1, 4, 4)[:, :, VIEW].argmax(axis=1)
    by_favourite = int((entry == favourite).sum())  # 0.65, and a quarter of the other 0.15
    assert stats.binomtest(by_favourite, 40_000, 0.65 + 0.15 / 4).pvalue > 1e-4
    by_second = int((entry == second).sum())
    assert stats.binomtest(by_second, 40_000, 0.2 + 0.15 / 4).pvalue > 1e-4
    assert (envs.satisfaction == shop.START_LEVEL).all()


def test_the_hashed_random_numbers_are_uniform_and_uncorrelated():
    envs, draws = make_shop(3000), []
    for seed in range(2):
        envs.reset(seed=seed)
        for page in range(20):
            draws.append(_uniforms(envs._session_key, np.full(3000, page), 6))
    draws = np.array(draws)  # (seed and page, purpose, session)
    assert draws.min() >= 0
    assert draws.max() < 1
    for purpose in range(6):
        flat = draws[:, purpose].ravel()
        assert stats.chisquare(np.histogram(flat, 100, (0, 1))[0]).pvalue > 1e-4
    centred = draws - 0.5

    def correlation(one, other):
        return 12 * (one * other).mean() * np.sqrt(one.size)  # standard normal if independent

    scores = [correlation(centred[:-lag], centred[lag:]) for lag in (1, 2, 20)]
    scores += [correlation(centred[..., :-lag], centred[..., lag:]) for lag in (1, 2, 7)]
    scores += [correlation(centred[:, p], centred[:, q]) for p in range(6) for q in range(p)]
    assert np.abs(scores).max() < 4.5
    assert len(np.unique(draws)) == draws.size
    pairs = np.histogram2d(draws[:-1].ravel(), draws[1:].ravel(), 16, [(0, 1), (0, 1)])[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-4


def test_no_two_sessions_of_neighbouring_seeds_and_lanes_share_their_luck():
    """The streams of 50 seeds, 40 lanes each, ten sessions a lane: 20,000 keys."""
    keys = []
    for seed in range(50):
        envs = make_shop(40)
        envs.reset(seed=seed)
        for _ in range(10):
            keys.append(envs._session_key.copy())
            envs.reset()
    assert len(np.unique(keys)) == 20_000


BAD_ACTIONS = [
    np.zeros(3, int),
    np.zeros(4),
    np.array([0, 1, 2, 12]),
    np.array([0, -1, 2, 3]),
    None,
]


@pytest.mark.parametrize("name", IDS)
def test_bad_actions_are_refused_and_leave_the_sessions_as_they_were(name):
    envs, twin = (gym.make_vec(name, num_envs=4) for _ in range(2))
    for each in (envs, twin):
        each.reset(seed=0)
        each.step(np.arange(4))
    for bad in BAD_ACTIONS:
        with pytest.raises(ValueError, match=r"^actions"):
            envs.step(bad)
    for _ in range(20):
        ours, theirs = envs.step(np.arange(4)), twin.step(np.arange(4))
        for a, b in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_refused_action_is_named_with_its_place_and_range():
    envs = make_shop(4)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions\[2\]=12: must lie in \[0, 12\)"):
        envs.step(np.array([0, 1, 12, 3]))
    with pytest.raises(ValueError, match=r"actions: \(4,\) integers expected, got float64"):
        envs.step(np.zeros(4))


def test_the_single_shop_refuses_bad_actions_too():
    env = ShopEnv()
    env.reset(seed=0)
    for bad in (12, 1.0, None, [1, 2]):
        with pytest.raises(ValueError, match=r"^action"):
            env.step(bad)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64, np.int64])
def test_whole_numbers_of_any_width_are_actions(kind):
    envs, twin = make_shop(12), make_shop(12)
    envs.reset(seed=0)
    twin.reset(seed=0)
    for _ in range(30):
        ours, theirs = envs.step(np.arange(12, dtype=kind)), twin.step(np.arange(12))
        for a, b in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(a, b)


def test_impossible_arguments_are_refused_by_name():
    for arguments in ({"num_envs": 0}, {"page_limit": 0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            make_shop(**arguments)
    with pytest.raises(ValueError, match="seed: a list of 3 expected, got 1"):
        make_shop(3).reset(seed=[1])
    with pytest.raises(ValueError, match="seed=-1"):
        make_shop(seed=-1)
    with pytest.raises(TypeError, match="weights: RewardWeights expected"):
        make_shop(weights=None)
    with pytest.raises(TypeError, match="positional"):
        make_shop(3, 0)


def test_long_sessions_stay_inside_the_observation_space():
    envs = make_shop(200, page_limit=150)
    envs.reset(seed=0)
    for page in range(150):
        observation = envs.step(np.full(200, (page * 4) % 12))[0]
        assert envs.observation_space.contains(observation)


@pytest.mark.alone
def test_the_simulator_is_quick():
    """A loose bound; `make bench` measures the speed itself, on one core."""
    envs, rng = make_shop(1024), np.random.default_rng(0)
    envs.reset(seed=0)
    items = rng.integers(0, NUM_ITEMS, (100, 1024))
    rates = []
    for _ in range(4):
        start = time.perf_counter()
        for row in items:
            envs.step(row)
        rates.append(items.size / (time.perf_counter() - start))
    assert max(rates) > 250_000, f"{max(rates):,.0f} transitions a second"
