"""Hostile input: refused by name with what is allowed, and without a trace; or a correct result.

Each row of `CASES` is a call with valid arguments, and for some of them a strategy of values that
are all wrong. One test draws such a value, and wants a ValueError or TypeError that names the
argument, and everything that the call could have changed to be as before.
"""

import random
import re
import zlib
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import dqnrec_lite
from dqnrec_lite import (
    DQN,
    DQNConfig,
    FiniteMDP,
    LearningCurve,
    PocketShop,
    Score,
    baselines,
    encoding,
    evaluate,
    evaluation,
    experiments,
    learners,
    logs,
    make_shop,
    networks,
    oracle,
    plotting,
    pocket,
    policy_value,
    replay,
    rewards,
    seed_everything,
    sessions,
    shop,
    tabular,
    targets,
    value_iteration,
)  # fmt: skip
from dqnrec_lite.replay import Batch, NStepWindow, ReplayBuffer

QUICK = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

THOROUGH = settings(QUICK, derandomize=False, max_examples=60)

# --- Values that are wrong --------------------------------------------------------------------

NO_NUMBERS: list[Any] = [
    None, "3", "", b"3", True, False, np.True_, [], [3], (1, 2), {}, {3}, object(), 3j, np.nan,
    np.inf, -np.inf, Decimal("NaN"), Decimal(3), np.array(3), np.array([3]), np.datetime64("NaT"),
    10**400, -(10**400), 10**5000, print, float,
]  # fmt: skip
NO_OBJECTS: list[Any] = ["x", b"", 0, 3.5, True, [], (), {}, object(), np.zeros(3), 3j, int]


def not_whole(low: int, high: int | None = None, none: bool = False):
    """No whole number in [low, high]; with `none` None is allowed, and so not among them."""
    junk = [x for x in NO_NUMBERS if not (none and x is None)]
    if high is None:
        junk = [x for x in junk if type(x) is not int or x < low]
    parts = [st.sampled_from(junk), st.floats(), st.integers(max_value=low - 1)]
    parts.append(st.fractions().filter(lambda x: x.denominator > 1))
    if high is not None:
        parts.append(st.integers(min_value=high + 1))
    return st.one_of(parts)


def not_number(low: float = -np.inf, high: float = np.inf, none: bool = False):
    """No finite number in [low, high]."""
    junk = [x for x in NO_NUMBERS if not (none and x is None)]
    parts = [st.sampled_from(junk)]
    if low > -np.inf:
        parts.append(st.floats(max_value=low, exclude_max=True))
    if high < np.inf:
        parts.append(st.floats(min_value=high, exclude_min=True))
        parts.append(st.just(Fraction(10**30)))
    return st.one_of(parts)


def not_kind(none: bool = False):
    """Things of every sort, none of which is what is wanted."""
    return st.sampled_from(NO_OBJECTS if none else [None, *NO_OBJECTS])


NO_ARRAYS: list[Any] = [
    None, "abc", b"abc", object(), {}, {1, 2}, [[1], [1, 2]], [None], ["a"], [[1.0], 2.0], 3j,
    print, np.array("NaT", "M8"), [10**400],
]  # fmt: skip


def not_array(like: np.ndarray, low: float = -np.inf, bound: float = np.inf, any_shape=False):
    """No array like this one: wrong in shape, dtype, finiteness or range."""
    like = np.asarray(like)
    whole, flags = like.dtype.kind in "iu", like.dtype.kind == "b"

    @st.composite
    def planted(draw, values):
        array = like.astype(np.int64 if whole else float)
        array.reshape(-1)[draw(st.integers(0, like.size - 1))] = draw(st.sampled_from(values))
        return array

    junk = [like.astype(kind) for kind in (object, str, complex)]
    if whole:
        junk += [like.astype(float), like.astype(bool)]
    if flags:
        junk += [like.astype(float) + 0.5, like.astype(float) + np.nan]
    parts = [st.sampled_from(NO_ARRAYS), st.sampled_from(junk)]
    if not any_shape:
        shapes = [(), (0,), (*like.shape, 1), (1, *like.shape), (0, *like.shape)]
        shapes += [(*like.shape[:-1], like.shape[-1] + 1), (*like.shape[:-1], 0)]
        shapes = [shape for shape in shapes if shape != like.shape]
        parts.append(st.sampled_from(shapes).map(lambda shape: np.zeros(shape, like.dtype)))
    if not whole and not flags:
        wrong = [np.nan, np.inf, -np.inf, 1e39, -1e300]
        wrong += [low - 1.0] if low > -np.inf else []
        wrong += [bound] if bound < np.inf else []
        parts.append(planted(wrong))
    if whole and low > -np.inf:
        parts.append(planted([int(low) - 1, -(2**63)]))
    if whole and bound < np.inf:
        parts.append(planted([int(bound), 2**62, 2**63 - 1]))
    return st.one_of(parts)


# --- What a refused call must leave alone -----------------------------------------------------


def state(thing: Any) -> Any:
    """A copy of everything that a thing holds, to be compared with `==`."""
    if isinstance(thing, DQN):
        held = [v.numpy() for v in thing.variables()], thing.replay, thing.rng
        return state((*held, thing.transitions, thing.updates, thing.owed, thing.unfinished))
    if isinstance(thing, np.ndarray):
        if thing.dtype.kind == "O":
            return thing.shape, [state(x) for x in thing.ravel()]
        return thing.shape, thing.dtype.str, thing.tobytes()
    if isinstance(thing, (int, str, bytes)):
        return thing
    if isinstance(thing, np.random.Generator):
        return repr(thing.bit_generator.state)
    if isinstance(thing, (list, tuple)):
        return [state(x) for x in thing]
    if isinstance(thing, dict):
        return {str(k): state(v) for k, v in thing.items()}
    inside = getattr(thing, "__dict__", None)
    if inside and (is_dataclass(thing) or type(thing).__module__.startswith(("dqnrec", "test"))):
        return {str(k): state(v) for k, v in inside.items()}
    return repr(thing)


def outside() -> Any:
    """What the package may change beyond its own objects."""
    return plt.get_fignums(), random.getstate(), state(np.random.get_state())  # noqa: NPY002


# --- Calls ------------------------------------------------------------------------------------


class Case(NamedTuple):
    call: Callable[..., Any]
    valid: dict[str, Any]
    wrong: dict[str, Any]  # argument -> strategy
    things: tuple[Any, ...] = ()  # whose state a refused call must not change
    named: dict[str, str] = {}  # argument -> what the message calls it, if another name


BOX, TWO = gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2)
SMALL = DQNConfig(hidden_sizes=(4,), buffer_size=64, batch_size=8, learning_starts=8)
OBSERVATIONS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
VALUES = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6])
CURVE = LearningCurve(*np.arange(1.0, 28.0).reshape(9, 3))


class Echo(VectorEnv):
    """Two sessions that return what they are told to."""

    def __init__(self):
        self.num_envs = 2
        self.single_observation_space, self.single_action_space = BOX, TWO
        self.observation_space = batch_space(BOX, 2)
        self.action_space = batch_space(TWO, 2)
        self.returns = OBSERVATIONS[:2], np.zeros(2), np.zeros(2, bool), np.zeros(2, bool)

    def reset(self, *, seed=None, options=None):
        return self.returns[0], {}

    def step(self, actions):
        return *self.returns, {}


def echo_step(observation, reward, terminated, truncated):
    ECHO.returns = observation, reward, terminated, truncated
    try:
        return ECHOED.step(np.zeros(2, int))
    finally:
        ECHO.returns = OBSERVATIONS[:2], np.zeros(2), np.zeros(2, bool), np.zeros(2, bool)


ECHO = Echo()
ECHOED = sessions.Sessions(ECHO)
ECHOED.reset(seed=0)
SHOP, ONE_SHOP = make_shop(3), shop.ShopEnv()
SHOP.reset(seed=0)
ONE_SHOP.reset(seed=0)
VECTORS = SHOP.step(np.array([0, 5, 11]))[0].copy()
PARTS = encoding.split_vectors(VECTORS, 4, 3)
POCKET = PocketShop()
MDP = POCKET.mdp
TABULAR = POCKET.vector(3)
TABULAR.reset(seed=0)
ENCODER = encoding.HistoryEncoder(3, 4, 3, 40)
BUFFER, WINDOW = ReplayBuffer(8, 4), NStepWindow(3, 0.9)
BATCH = Batch(
    OBSERVATIONS, np.array([0, 1, 1]), np.ones(3), OBSERVATIONS, np.zeros(3), np.full(3, 2.0)
)
BUFFER.add(BATCH)
ACTIONS, ENDS = np.array([0, 1, 1]), np.zeros(3, bool)
STEP = sessions.Step(np.ones(3), OBSERVATIONS, ENDS, ENDS, ~ENDS)
WINDOW.push(OBSERVATIONS, ACTIONS, STEP)
AGENT = DQN(BOX, TWO, SMALL)
SCORE = Score(VALUES, np.ones(6))
TINY = {
    "joint": np.array([[[[0.5, 0.5]], [[1.0, 0.0]]], [[[0.0, 1.0]], [[0.0, 1.0]]]]),
    "event_reward": np.array([[[1.0], [2.0]], [[0.0], [0.0]]]),
    "start": np.array([1.0, 0.0]),
    "terminal": np.array([False, True]),
    "observations": np.eye(2, dtype=np.float32),
}
ORACLE_ITEMS = np.zeros((2, 24, 5, 5, 16, 7), np.int8)


class Tables(NamedTuple):
    P: Any
    R: Any


def push(observation, action, **step):
    return WINDOW.push(observation, action, sessions.Step(**step))


def curve_of(column: Any) -> LearningCurve:
    return CURVE._replace(td_error=column)


SHOP_ARGUMENTS = {
    "num_envs": not_whole(1, 2**24), "seed": not_whole(0), "page_limit": not_whole(1, 2**24),
    "weights": not_kind(none=True),
}  # fmt: skip
ONE_ARGUMENTS = {k: v for k, v in SHOP_ARGUMENTS.items() if k != "num_envs"}
POCKET_ARGUMENTS = {
    "seed": not_whole(0), "page_limit": not_whole(1, none=True), "weights": not_kind(none=True)
}  # fmt: skip
CONFIG = {
    name: not_whole(int(low), int(high)) if kind.__name__ == "Integral"
    else not_number(low, high, none=name in ("target_tau", "learning_rate_end"))
    for name, (kind, low, high) in dqnrec_lite.config._RANGES.items()
}  # fmt: skip
CONFIG |= {
    "hidden_sizes": st.sampled_from([None, 8, "8", (0,), (-1,), (8.0,), (True,), ("8",), {8},
                                     np.array([8]), [[8]], (10**9,), (None,)]),
    "loss": st.sampled_from([None, "mae", 0, b"mse", ["mse"], np.array(["mse"]), {}]),
    "double": st.sampled_from([None, 0, 1, "yes", np.True_, []]),
    "dueling": st.sampled_from([None, 0, 1, "yes", np.True_, []]),
}  # fmt: skip
LEARN = {
    "envs": not_kind(), "total_steps": not_whole(1), "checkpoint_every": not_whole(1),
    "checkpoint_dir": st.sampled_from([0, 3.5, True, [], {}, object(), b"folder"]),
}  # fmt: skip
HISTORY = {"entry": 1, "items": [0, 5], "events": [1, 3], "num_categories": 4, "num_kinds": 3,
           "page_limit": 40, "decay": 0.85}  # fmt: skip
ENCODER_ARGUMENTS = {
    "num_categories": not_whole(1, 2**24), "num_kinds": not_whole(1, 2**24),
    "page_limit": not_whole(1, 2**24), "decay": not_number(0.0, 1.0),
}  # fmt: skip
TARGET = {"reward": np.ones(3), "terminated": ENDS, "next_value": np.ones(3), "discount": 0.9,
          "steps": np.ones(3)}  # fmt: skip
SHAPED = {"reward": np.ones(3), "potential": np.ones(3), "next_potential": np.ones(3),
          "terminated": ENDS, "discount": 0.9}  # fmt: skip


def arrays_of(valid: dict[str, Any], **limits: Any) -> dict[str, Any]:
    """A strategy of wrong arrays for each argument that is one."""
    given = {k: v for k, v in valid.items() if isinstance(v, np.ndarray)}
    return {k: not_array(v, **limits.get(k, {})) for k, v in given.items()}


CASES: dict[str, Case] = {
    "seed_everything": Case(seed_everything, {}, {"seed": not_whole(0, 2**32 - 1)}),
    "DQNConfig": Case(DQNConfig, {}, CONFIG),
    "DQN": Case(
        DQN,
        {"observation_space": BOX, "action_space": TWO, "config": SMALL},
        {"observation_space": not_kind(), "action_space": not_kind(), "config": not_kind(True)},
    ),
    "DQN.learn": Case(
        AGENT.learn, {"envs": gym.make("CartPole-v1"), "total_steps": 8}, LEARN, (AGENT,),
        {"envs": "envs?"},
    ),
    "DQN.q_values": Case(
        AGENT.q_values, {}, {"observations": not_array(OBSERVATIONS)}, (AGENT,)
    ),
    "DQN.predict": Case(AGENT.predict, {}, {"observations": not_array(OBSERVATIONS)}, (AGENT,)),
    "DQN.save": Case(AGENT.save, {}, {"directory": LEARN["checkpoint_dir"]}, (AGENT,)),
    "DQN.load": Case(DQN.load, {}, {"directory": LEARN["checkpoint_dir"]}),
    "make_shop": Case(make_shop, {}, SHOP_ARGUMENTS),
    "ShopVectorEnv": Case(shop.ShopVectorEnv, {}, SHOP_ARGUMENTS),
    "ShopEnv": Case(shop.ShopEnv, {}, ONE_ARGUMENTS),
    "ShopVectorEnv.reset": Case(
        SHOP.reset, {},
        {"seed": st.one_of(not_whole(0, none=True), st.lists(st.integers(0, 9), min_size=4),
                           st.lists(not_whole(0), min_size=3, max_size=3))},
        (SHOP,),
    ),
    "ShopVectorEnv.step": Case(
        SHOP.step, {}, {"actions": not_array(np.array([0, 5, 11]), 0, 12)}, (SHOP,)
    ),
    "ShopEnv.reset": Case(ONE_SHOP.reset, {}, {"seed": not_whole(0, none=True)}, (ONE_SHOP,)),
    "ShopEnv.step": Case(
        ONE_SHOP.step, {},
        {"action": st.sampled_from([None, "1", 1.0, True, -1, 12, 2**63, [1, 2], [], 10**400])},
        (ONE_SHOP,),
    ),
    "PocketShop": Case(PocketShop, {}, POCKET_ARGUMENTS),
    "PocketShop.vector": Case(
        POCKET.vector, {"num_envs": 3},
        {"num_envs": not_whole(1, 2**24), "seed": not_whole(0),
         "page_limit": not_whole(1, none=True)},
        (POCKET,),
    ),
    "pocket_vector_env": Case(
        pocket.pocket_vector_env, {}, {**POCKET_ARGUMENTS, "num_envs": not_whole(1, 2**24)}
    ),
    "pocket_mdp": Case(pocket.pocket_mdp, {}, {"weights": not_kind(none=True)}),
    "pocket_state": Case(
        pocket.pocket_state, {"interest": 0, "satisfaction": 3, "last": 0},
        {"interest": not_whole(0, 3), "satisfaction": not_whole(0, 4), "last": not_whole(0, 3)},
    ),
    "FiniteMDP": Case(
        FiniteMDP, TINY,
        {**arrays_of(TINY, joint={"low": 0.0}, start={"low": 0.0}),
         "observations": not_array(TINY["observations"]).filter(
             lambda x: np.shape(x) not in [(2, 3), (2, 0)] if isinstance(x, np.ndarray) else True),
         "terminal": st.sampled_from([np.array([True, True]), np.zeros(2), np.zeros(3, bool),
                                        None, [1, 0], np.array([[True, False]])])},
        named={"event_reward": "event_reward|joint"},
    ),
    "value_iteration": Case(
        value_iteration, {"mdp": POCKET, "discount": 0.9},
        {"mdp": not_kind(), "discount": not_number(0.0, 1.0),
         "tolerance": not_number(0.0)},
    ),
    "value_iteration's tables": Case(
        lambda **tables: value_iteration(Tables(**tables), 0.9), {"P": MDP.P, "R": MDP.R},
        {"P": not_array(MDP.P), "R": not_array(MDP.R)},
        named={"R": r"mdp\.[PR]"},
    ),
    "policy_value": Case(
        policy_value, {"mdp": POCKET, "policy": np.zeros(81, int), "discount": 0.9},
        {"mdp": not_kind(), "policy": not_array(np.zeros(81, int), 0, 6),
         "discount": not_number(0.0, 1.0)},
    ),
    "TabularVectorEnv": Case(
        tabular.TabularVectorEnv, {"mdp": MDP},
        {"mdp": not_kind(), "num_envs": not_whole(1, 2**24), "seed": not_whole(0),
         "page_limit": not_whole(1, none=True)},
    ),
    "TabularVectorEnv.reset": Case(
        TABULAR.reset, {}, {"seed": not_whole(0, none=True)}, (TABULAR,)
    ),
    "TabularVectorEnv.step": Case(
        TABULAR.step, {}, {"actions": not_array(np.array([0, 3, 5]), 0, 6)}, (TABULAR,)
    ),
    "Score": Case(
        Score, {"returns": VALUES, "lengths": np.ones(6)},
        {"returns": not_array(VALUES), "lengths": not_array(VALUES)},
        named={"returns": "returns|lengths"},
    ),
    "evaluate": Case(
        evaluate, {"policy": AGENT.predict, "envs": gym.make("CartPole-v1"), "episodes": 2},
        {"policy": not_kind().filter(lambda x: not callable(x)), "envs": not_kind(),
         "episodes": not_whole(1, 10**9), "seed": not_whole(0, none=True)},
        (AGENT,), {"envs": "envs?"},
    ),
    "play": Case(
        lambda **given: list(evaluation.play(**given)),
        {"policy": AGENT.predict, "envs": gym.make("CartPole-v1"), "episodes": 2},
        {"policy": not_kind().filter(lambda x: not callable(x)), "envs": not_kind(),
         "episodes": not_whole(1, 10**9), "seed": not_whole(0, none=True)},
        (AGENT,), {"envs": "envs?"},
    ),
    "evaluate's policy": Case(
        lambda policy: evaluate(lambda _: policy, SHOP, 5, seed=0), {},
        {"policy": not_array(ACTIONS, 0, 12)},
    ),
    "confidence_interval": Case(
        evaluation.confidence_interval, {},
        {"values": st.one_of(not_array(VALUES, any_shape=True),
                             st.sampled_from([[], [1.0] * 4, np.ones((5, 5)), 1.0]))},
    ),
    "paired_difference": Case(
        evaluation.paired_difference, {"ours": SCORE, "theirs": SCORE},
        {"ours": not_kind(), "theirs": not_kind()},
    ),
    "interquartile_mean": Case(
        evaluation.interquartile_mean, {"values": VALUES},
        {"values": st.one_of(not_array(VALUES, any_shape=True), st.just([])),
         "axis": not_whole(-1, 0, none=True)},
    ),
    "bootstrap_interval": Case(
        evaluation.bootstrap_interval, {"values": VALUES, "resamples": 20},
        {"values": st.one_of(not_array(VALUES, any_shape=True),
                             st.sampled_from([[], [VALUES, VALUES[:4]], [[VALUES]], [[]], 1.0])),
         "statistic": not_kind().filter(lambda x: not callable(x)),
         "resamples": not_whole(1, 10**7), "seed": not_whole(0)},
    ),
    "probability_of_improvement": Case(
        evaluation.probability_of_improvement, {"ours": VALUES, "theirs": VALUES},
        {who: st.one_of(not_array(VALUES, any_shape=True),
                        st.sampled_from([[], 1.0, np.ones((2, 2))])) for who in ("ours", "theirs")},
    ),
    "random_policy": Case(
        baselines.random_policy, {"num_actions": 3},
        {"num_actions": not_whole(1, 2**24), "seed": not_whole(0)},
    ),
    "fixed_policy": Case(
        baselines.fixed_policy, {"items": [1, 2]},
        {"items": not_array(np.array([1, 2]), 0, 12, any_shape=True) | st.just(np.zeros(0, int)),
         "page_limit": not_whole(1, 2**24)},
    ),
    "most_popular_item": Case(
        baselines.most_popular_item, {"envs": SHOP, "pages": 6},
        {"envs": not_kind(), "pages": not_whole(1, 10**9), "seed": not_whole(0)}, (SHOP,),
    ),
    "best_fixed_rule": Case(
        baselines.best_fixed_rule, {},
        {"seed": not_whole(0), "customers": not_whole(1, 2**24),
         "finalists": not_whole(1, 2**24)},
        named={"customers": "num_envs|customers"},
    ),
    "attentive_policy": Case(baselines.attentive_policy, {}, {"patience": not_number()}),
    "item_to_item_policy": Case(
        baselines.item_to_item_policy, {"envs": SHOP, "sessions": 6},
        {"envs": not_kind(), "sessions": not_whole(1, 2**24), "seed": not_whole(0)}, (SHOP,),
    ),
    "train_myopic": Case(
        baselines.train_myopic, {"envs": SHOP, "total_steps": 6, "config": SMALL},
        {"envs": not_kind(), "total_steps": not_whole(1), "config": not_kind(none=True)}, (SHOP,),
    ),
    "train_linucb": Case(
        baselines.train_linucb, {"envs": SHOP, "total_steps": 6},
        {"envs": not_kind(), "total_steps": not_whole(1), "alpha": not_number(0.0),
         "seed": not_whole(0)},
        (SHOP,),
    ),
    "train_tabular": Case(
        baselines.train_tabular, {"envs": SHOP, "total_steps": 6},
        {"envs": not_kind(), "total_steps": not_whole(1), "discount": not_number(0.0, 1.0),
         "epsilon_end": not_number(0.0, 1.0), "step_power": not_number(0.0, 1.0),
         "seed": not_whole(0)},
        (SHOP,),
    ),
    **{
        f"{name}'s policy": Case(policy, {}, {"observations": not_array(VECTORS)})
        for name, policy in [
            ("attentive_policy", baselines.attentive_policy()),
            ("item_to_item_policy", baselines.item_to_item_policy(make_shop(3), 6)),
            ("train_linucb", baselines.train_linucb(make_shop(3), 6)),
            ("train_tabular", baselines.train_tabular(make_shop(3), 6)),
        ]
    },
    **{
        f"{name}'s policy": Case(policy, {}, {"observations": st.sampled_from(
            [*NO_ARRAYS, VECTORS[0], VECTORS[:, :, None], VECTORS * np.nan, VECTORS * 1j])})
        for name, policy in [  # of observations of any length
            ("random_policy", baselines.random_policy(12)),
            ("fixed_policy", baselines.fixed_policy([1, 4])),
        ]
    },
    "coarse_state": Case(learners.coarse_state, {}, {"observations": not_array(VECTORS)}),
    "rested_interest": Case(learners.rested_interest, {}, {"seen": not_kind()}),
    "passed_over_premium": Case(
        learners.passed_over_premium, {"seen": PARTS},
        {"seen": not_kind(), "patience": not_number()},
    ),
    "HistoryEncoder": Case(
        encoding.HistoryEncoder,
        {"num_histories": 3, "num_categories": 4, "num_kinds": 3, "page_limit": 40},
        {"num_histories": not_whole(1, 2**24), **ENCODER_ARGUMENTS},
    ),
    "HistoryEncoder.start": Case(
        ENCODER.start, {"where": np.array([0, 2]), "entry": np.array([1, 3])},
        {"where": not_array(np.array([0, 2]), 0, 3), "entry": not_array(np.array([1, 3]), 0, 4)},
        (ENCODER,), {"where": "where|entry"},
    ),
    "HistoryEncoder.update": Case(
        ENCODER.update, {"items": np.array([0, 5, 11]), "events": np.array([0, 1, 3])},
        {"items": not_array(ACTIONS, 0, 12), "events": not_array(ACTIONS, 0, 4)}, (ENCODER,),
    ),
    "encode_history": Case(
        encoding.encode_history, HISTORY,
        {"entry": not_whole(0, 3), **ENCODER_ARGUMENTS,
         **{name: st.one_of(st.sampled_from([None, "ab", {1, 2}, 5, [1], [1, 2, 3]]),
                            st.lists(not_whole(0, 3 if name == "events" else 11), min_size=2,
                                     max_size=2))
            for name in ("items", "events")}},
    ),
    "split_vectors": Case(
        encoding.split_vectors, {"vectors": VECTORS, "num_categories": 4, "num_kinds": 3},
        {"vectors": not_array(VECTORS), "num_categories": not_whole(1),
         "num_kinds": not_whole(1)},
        named={"vectors": "observations"},
    ),
    "record_sessions": Case(
        logs.record_sessions, {"policy": baselines.random_policy(12), "envs": SHOP, "episodes": 3},
        {"policy": not_kind().filter(lambda x: not callable(x)), "envs": not_kind(),
         "episodes": not_whole(1, 10**9), "seed": not_whole(0, none=True)},
        (SHOP,),
    ),
    "build_q_network": Case(
        networks.build_q_network, {"observation_size": 4, "num_actions": 2},
        {"observation_size": not_whole(1, 2**24), "num_actions": not_whole(1, 2**24),
         "hidden_sizes": CONFIG["hidden_sizes"], "dueling": CONFIG["dueling"],
         "seed": not_whole(0, 2**53)},
    ),
    "solve_oracle": Case(
        oracle.solve_oracle, {},
        {"page_limit": not_whole(1, 10_000), "weights": not_kind(none=True),
         "discount": not_number(0.0, 1.0)},
    ),
    "oracle_policy": Case(
        oracle.oracle_policy,
        {"envs": make_shop(3, page_limit=2), "items": ORACLE_ITEMS},
        {"envs": not_kind(),
         "items": st.sampled_from([*NO_ARRAYS, ORACLE_ITEMS[:1], ORACLE_ITEMS[0],
                                   ORACLE_ITEMS + 12, ORACLE_ITEMS - 1, ORACLE_ITEMS * 1.0])},
    ),
    "plot_learning_curve": Case(
        plotting.plot_learning_curve, {"curve": CURVE, "levels": {"random": 1.0}},
        {"curve": not_kind() | st.sampled_from([CURVE._replace(mean_return=np.full(3, np.nan)),
                                                LearningCurve(*np.zeros((9, 0)))]),
         "levels": st.one_of(st.sampled_from([None, "x", 3, [1.0]]),
                                 not_number().map(lambda x: {"random": x}))},
    ),
    "plot_training": Case(
        plotting.plot_training, {},
        {"curve": not_kind() | not_array(np.arange(3.0)).filter(
            lambda x: not isinstance(x, np.ndarray) or x.shape != (3,) or x.dtype.kind != "f"
        ).map(curve_of)},
    ),
    "plot_intervals": Case(
        plotting.plot_intervals, {},
        {"intervals": st.one_of(st.sampled_from([None, "x", 3, [1.0], {}]),
                                not_array(np.arange(3.0)).map(lambda x: {"DQN": x}))},
    ),
    "ReplayBuffer": Case(
        ReplayBuffer, {"capacity": 4, "observation_size": 4},
        {"capacity": not_whole(1) | st.just(10**14), "observation_size": not_whole(1)},
    ),
    "ReplayBuffer.add": Case(BUFFER.add, {}, {"batch": not_kind()}, (BUFFER,)),
    "ReplayBuffer.add's arrays": Case(
        lambda **arrays: BUFFER.add(Batch(**arrays)), BATCH._asdict(),
        arrays_of(BATCH._asdict(), action={"low": 0, "bound": 2**31}, steps={"low": 1.0},
                  terminated={"low": 0.0, "bound": 2.0}),
        (BUFFER,), {"action": "action|observation"},
    ),
    "ReplayBuffer.sample": Case(
        BUFFER.sample, {"shape": 2, "rng": np.random.default_rng(0)},
        {"shape": not_whole(0).filter(lambda x: not isinstance(x, tuple)), "rng": not_kind()},
        (BUFFER,),
    ),
    "NStepWindow": Case(
        NStepWindow, {"n_step": 3, "discount": 0.9},
        {"n_step": not_whole(1), "discount": not_number(0.0, 1.0)},
    ),
    "NStepWindow.push": Case(
        push, {"observation": OBSERVATIONS, "action": ACTIONS, **STEP._asdict()},
        {"observation": not_array(OBSERVATIONS), "action": not_array(ACTIONS, 0),
         **arrays_of(STEP._asdict())},
        (WINDOW,),
    ),
    "NStepWindow.push's step": Case(
        WINDOW.push, {"observation": OBSERVATIONS, "action": ACTIONS}, {"step": not_kind()},
        (WINDOW,),
    ),
    "NStepWindow.flush": Case(
        WINDOW.flush, {}, {"observation": not_array(OBSERVATIONS)}, (WINDOW,)
    ),
    "RewardWeights": Case(
        rewards.RewardWeights, {},
        {f.name: not_number() for f in fields(rewards.RewardWeights)},
    ),
    "RewardWeights.of_events": Case(
        rewards.RewardWeights().of_events, {"events": np.arange(4), "margins": np.ones(4)},
        {"events": not_array(np.arange(4), 0, 4, any_shape=True) | st.just(np.zeros(3, int)),
         "margins": not_array(np.ones(4), any_shape=True) | st.just(np.ones(3))},
    ),
    "shaped": Case(
        rewards.shaped, SHAPED,
        {**{name: not_array(array, any_shape=True) | st.just(np.ones(2))
            for name, array in SHAPED.items() if name != "discount"},
         "discount": not_number(0.0, 1.0)},
    ),
    "td_target": Case(
        targets.td_target, TARGET,
        {**{name: not_array(array, any_shape=True) | st.sampled_from([np.ones(2), np.ones((3, 2))])
            for name, array in TARGET.items() if name != "discount"},
         "discount": not_number(0.0, 1.0)},
        named={name: "reward|terminated|next_value|steps" for name in TARGET if name != "discount"},
    ),
    "dqn_value": Case(
        targets.dqn_value, {},
        {"next_q_target": st.sampled_from([None, "x", 3, [1.0], np.array(1.0), np.zeros((2, 0)),
            np.array([1.0, np.nan]), np.array(["a"]), np.array([None]), np.array([1j])])},
    ),
    "double_dqn_value": Case(
        targets.double_dqn_value,
        {"next_q_online": np.ones((2, 3)), "next_q_target": np.ones((2, 3))},
        {name: st.sampled_from([None, "x", 3, [1.0], np.array(1.0), np.zeros((2, 0)),
            np.full((2, 3), np.nan), np.ones((2, 4)), np.ones((3, 3)), np.ones((2, 3)) * 1j])
         for name in ("next_q_online", "next_q_target")},
    ),
    "Sessions": Case(sessions.Sessions, {}, {"env": not_kind()}),
    "Sessions.reset": Case(ECHOED.reset, {}, {"seed": not_whole(0, none=True)}, (ECHOED,)),
    "Sessions.step": Case(
        ECHOED.step, {}, {"actions": not_array(np.array([0, 1]), 0, 2)}, (ECHOED,)
    ),
    "Sessions.step's environment": Case(
        echo_step,
        dict(zip(("observation", "reward", "terminated", "truncated"), ECHO.returns, strict=True)),
        {"observation": not_array(OBSERVATIONS[:2]), "reward": not_array(np.zeros(2)),
         "terminated": not_array(ENDS[:2]), "truncated": not_array(ENDS[:2])},
        (ECHOED,),
    ),
    "experiment_rows": Case(
        experiments.experiment_rows, {"study": "shop"},
        {"study": not_kind(), "method": not_kind(none=True)},
    ),
    "read_rows": Case(experiments.read_rows, {}, {"path": LEARN["checkpoint_dir"]}),
}  # fmt: skip


# --- Tests ------------------------------------------------------------------------------------


def refused(case: Case, argument: str, value: Any) -> None:
    """The call refuses the value as it should."""
    before = state(case.things), outside(), state(value), state(case.valid)
    with pytest.raises((ValueError, TypeError)) as caught:
        case.call(**{**case.valid, argument: value})
    message = str(caught.value)
    assert re.search(case.named.get(argument, argument), message), message
    assert re.search("expected|must|not fit into memory|the studies are", message), message
    assert len(message) < 600, message
    assert before == (state(case.things), outside(), state(value), state(case.valid))


@pytest.mark.parametrize(
    ("name", "argument"), [(name, argument) for name in CASES for argument in CASES[name].wrong]
)
def test_what_is_wrong_is_refused_by_name_and_without_a_trace(name, argument):
    case = CASES[name]

    @seed(zlib.crc32(f"{name} {argument}".encode()))  # other values for each, the same every time
    @THOROUGH
    @given(case.wrong[argument])
    def check(value):
        refused(case, argument, value)

    check()


EXPENSIVE = {"best_fixed_rule", "solve_oracle", "DQN.save", "DQN.load", "read_rows"}


@pytest.mark.parametrize("name", sorted(CASES.keys() - EXPENSIVE))
def test_the_same_calls_go_through_with_what_is_right(name):
    """So that the refusals above are those of the one wrong value."""
    case = CASES[name]
    missing = {
        "seed_everything": {"seed": 0},
        "DQN.q_values": {"observations": OBSERVATIONS},
        "DQN.predict": {"observations": OBSERVATIONS},
        "ShopVectorEnv.step": {"actions": np.array([0, 5, 11])},
        "ShopEnv.step": {"action": 3},
        "TabularVectorEnv.step": {"actions": np.array([0, 5, 1])},
        "confidence_interval": {"values": VALUES},
        "evaluate's policy": {"policy": ACTIONS},
        "coarse_state": {"observations": VECTORS},
        "rested_interest": {"seen": PARTS},
        "plot_training": {"curve": CURVE},
        "plot_intervals": {"intervals": {"DQN": (1.0, 0.5, 1.5)}},
        "ReplayBuffer.add": {"batch": BATCH},
        "NStepWindow.push's step": {"step": STEP},
        "NStepWindow.flush": {"observation": OBSERVATIONS},
        "dqn_value": {"next_q_target": np.ones((2, 3))},
        "Sessions": {"env": Echo()},
        "Sessions.step": {"actions": np.array([0, 1])},
        **{f"{policy}'s policy": {"observations": VECTORS} for policy in POLICIES},
    }
    case.call(**{**case.valid, **missing.get(name, {})})
    plt.close("all")


POLICIES = [name.split("'")[0] for name in CASES if name.endswith("'s policy")][1:]


def test_every_public_name_is_among_the_cases():
    """What a module offers: functions and classes of its own, without an underscore."""
    data = {
        "Step", "Batch", "VectorParts", "SessionLog", "LearningCurve", "Page", "Tabular",
        "SingleSession",  # through ShopEnv
        "funnel_probabilities", "fixed_rules", "use_house_style",  # take no arguments
        "weights_or_default",  # through PocketShop and the Shop
        # what `make experiments` runs; not for outsiders
        "make_rows", "store", "differences", "main",
    }  # fmt: skip
    public = set(dqnrec_lite.__all__)
    modules = (
        baselines, encoding, evaluation, experiments, learners, logs, networks, oracle, plotting,
        pocket, replay, rewards, sessions, shop, tabular, targets,
    )  # fmt: skip
    for module in modules:
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if own and callable(value) and not name.startswith("_"):
                public.add(name)
    assert public - data - CASES.keys() == set()


# --- What is odd, but right -------------------------------------------------------------------


def variants(array: np.ndarray) -> dict[str, Any]:
    """The same numbers in other clothes."""
    spread = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    spread[..., ::2] = array
    sealed = array.copy()
    sealed.flags.writeable = False
    wide = np.longdouble if array.dtype.kind == "f" else np.int64
    return {
        "every second of a larger array": spread[..., ::2],
        "backwards twice": np.ascontiguousarray(array[::-1])[::-1],
        "columns first": np.asfortranarray(array),
        "read-only": sealed,
        "wider": array.astype(bool if array.dtype == bool else wide),
        "other byte order": array.astype(array.dtype.newbyteorder()),
    }


def fresh_buffer(**arrays):
    buffer = ReplayBuffer(8, 4)
    buffer.add(Batch(**arrays))
    return buffer.data


def fresh_window(observation, action, **step):
    window = NStepWindow(2, 0.9)
    window.push(observation, action, sessions.Step(**step))
    return window.push(observation, action, sessions.Step(**step))


def fresh_encoder(items, events):
    encoder = encoding.HistoryEncoder(3, 4, 3, 40)
    encoder.update(items, events)
    return encoder.vectors


def fresh_shop(actions):
    env = make_shop(3)
    env.reset(seed=0)
    return env.step(actions)[:4]


ODD: dict[str, tuple[Callable[..., Any], dict[str, np.ndarray]]] = {
    "q_values": (AGENT.q_values, {"observations": OBSERVATIONS}),
    "predict": (AGENT.predict, {"observations": OBSERVATIONS}),
    "confidence_interval": (evaluation.confidence_interval, {"values": VALUES}),
    "interquartile_mean": (evaluation.interquartile_mean, {"values": VALUES}),
    "bootstrap_interval": (partial(evaluation.bootstrap_interval, resamples=50),
                           {"values": VALUES}),
    "probability": (evaluation.probability_of_improvement, {"ours": VALUES, "theirs": VALUES + 1}),
    "td_target": (partial(targets.td_target, discount=0.9),
                  {k: v for k, v in TARGET.items() if k != "discount"}),
    "double_dqn_value": (targets.double_dqn_value,
                         {"next_q_online": VECTORS, "next_q_target": VECTORS}),
    "shaped": (partial(rewards.shaped, discount=0.9),
               {k: v for k, v in SHAPED.items() if k != "discount"}),
    "of_events": (rewards.RewardWeights(0.1, 0.2, 0.3).of_events,
                  {"events": np.arange(4), "margins": np.arange(4.0)}),
    "split_vectors": (partial(encoding.split_vectors, num_categories=4, num_kinds=3),
                      {"vectors": VECTORS}),
    "coarse_state": (learners.coarse_state, {"observations": VECTORS}),
    "attentive_policy": (baselines.attentive_policy(), {"observations": VECTORS}),
    "update": (fresh_encoder, {"items": np.array([0, 5, 11]), "events": np.array([0, 1, 3])}),
    "step": (fresh_shop, {"actions": np.array([0, 5, 11])}),
    "add": (fresh_buffer, BATCH._asdict()),
    "push": (fresh_window, {"observation": OBSERVATIONS, "action": ACTIONS, **STEP._asdict()}),
    "FiniteMDP": (lambda **tables: value_iteration(FiniteMDP(**tables), 0.9), TINY),
    "policy_value": (lambda policy: policy_value(POCKET, policy, 0.9),
                     {"policy": np.arange(81) % 6}),
    "evaluate": (lambda policy: evaluate(lambda _: policy, SHOP, 5, 0).returns,
                 {"policy": ACTIONS}),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_strided_read_only_and_foreign_arrays_give_the_same_result(name):
    call, arrays = ODD[name]
    expected = call(**arrays)
    for argument, array in arrays.items():
        for clothes, odd in variants(array).items():
            before = odd.tobytes()
            found = call(**{**arrays, argument: odd})
            one = found if isinstance(found, tuple) else (found,)
            other = expected if isinstance(expected, tuple) else (expected,)
            for a, b in zip(one, other, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=f"{argument}: {clothes}")
            assert odd.tobytes() == before


def test_results_are_the_callers_own():
    """Writing over what came back, or over what was given, changes nothing inside."""
    env = make_shop(3)
    first = env.reset(seed=0)[0]
    first[:] = np.nan
    observation, *_ = env.step(np.zeros(3, int))
    assert np.isfinite(observation).all()
    q = AGENT.q_values(OBSERVATIONS)
    expected = q.copy()
    q.setflags(write=True)
    q[:] = np.nan
    np.testing.assert_array_equal(AGENT.q_values(OBSERVATIONS), expected)
    window, mine, action = NStepWindow(2, 1.0), OBSERVATIONS.copy(), ACTIONS.copy()
    window.push(mine, action, STEP)
    mine[:], action[:] = 99.0, 7
    done = window.push(mine, action, STEP)
    np.testing.assert_array_equal(done.observation, OBSERVATIONS)
    np.testing.assert_array_equal(done.action, ACTIONS)
    rule = np.array([1, 4])
    policy = baselines.fixed_policy(rule)
    rule[:] = 11
    assert (policy(np.zeros((2, 45))) == 1).all()


def test_nothing_is_a_batch_too():
    none = np.zeros((0, 4), np.float32)
    assert AGENT.q_values(none).shape == (0, 2)
    assert AGENT.predict(none).shape == (0,)
    assert AGENT.predict(none).dtype == np.int64
    buffer = ReplayBuffer(4, 4)
    buffer.add(Batch(none, np.zeros(0, int), *(np.zeros(0),), none, np.zeros(0), np.zeros(0)))
    assert len(buffer) == buffer.position == 0
    assert targets.td_target(np.zeros(0), np.zeros(0), np.zeros(0), 0.9).shape == (0,)
    assert encoding.split_vectors(np.zeros((0, 45)), 4, 3).by_kind.shape == (0, 3, 4)
    for policy in (baselines.random_policy(3), baselines.attentive_policy()):
        assert policy(np.zeros((0, 45))).shape == (0,)
    assert encoding.encode_history(1, [], [], 4, 3, 40).sum() == 1.0


class Instant(gym.Env):
    """Every session ends with its first step: there is no shorter one."""

    observation_space, action_space = BOX, TWO

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action):
        return np.ones(4, np.float32), 1.0, action == 0, action == 1, {}


@pytest.mark.parametrize("n_step", [1, 3])
def test_sessions_of_a_single_step_are_learnt_from_and_judged(n_step):
    config = DQNConfig(hidden_sizes=(4,), buffer_size=64, batch_size=8, learning_starts=8,
                       n_step=n_step, updates_per_transition=1.0)  # fmt: skip
    agent = DQN(BOX, TWO, config)
    curve = agent.learn(Instant(), 64)
    assert (agent.replay.data.steps == 1).all()
    assert curve.mean_length[-1] == 1.0
    score = evaluate(agent.predict, Instant(), 5)
    np.testing.assert_array_equal(score.returns, 1.0)
    np.testing.assert_array_equal(score.lengths, 1)


@given(
    st.binary(max_size=300)
    | st.text(max_size=80).map(str.encode)
    | st.sampled_from([b"[" * 100_000, b"{}", b"null", b'{"study": 1}', b"\xff", b"1e999"])
)
@QUICK
def test_a_file_of_anything_is_no_file_of_rows(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_bytes(content)
    if content.splitlines():
        with pytest.raises(ValueError, match=r"rows\.jsonl, line \d+: damaged"):
            experiments.read_rows(path)
    else:
        assert experiments.read_rows(str(path)) == []


@given(st.binary(max_size=300))
@QUICK
def test_a_file_of_anything_is_no_agent(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("agent")
    (folder / "agent.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"agent\.npz: damaged, or not a saved agent"):
        DQN.load(folder)


@given(st.data())
@QUICK
def test_settings_within_their_ranges_are_taken_and_kept(data):
    chosen = {}
    for name, (kind, low, high) in dqnrec_lite.config._RANGES.items():
        strategy = (
            st.integers(int(low), int(high)) if kind.__name__ == "Integral"
            else st.floats(low, high)
        )  # fmt: skip
        chosen[name] = data.draw(strategy)
    chosen["buffer_size"] = max(chosen[n] for n in ("buffer_size", "batch_size", "learning_starts"))
    kept = asdict(DQNConfig(**chosen))
    assert {name: kept[name] for name in chosen} == chosen


def test_a_buffer_beyond_all_memory_is_refused_with_what_it_needs():
    with pytest.raises(ValueError, match=r"capacity=10+, observation_size=4: .* GB do not fit"):
        DQN(BOX, TWO, DQNConfig(buffer_size=10**14))


def test_weights_that_have_run_away_are_told():
    agent = DQN(BOX, TWO, SMALL)
    agent.q_network.set_weights([np.full_like(w, 1e30) for w in agent.q_network.get_weights()])
    with pytest.raises(ValueError, match=r"q_values\[\d, 0\] is (nan|inf|-inf): must be finite"):
        agent.q_values(OBSERVATIONS)
