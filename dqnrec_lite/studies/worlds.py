"""Five worlds, small enough to train in a hundred times over, and what settings earn in them.

Settings are compared here: the improvements of DQN in all combinations, and the defaults of
`DQNConfig`. What is chosen is chosen on seeds below 100; what is said of it afterwards comes from
`FRESH` seeds, which nobody has looked at before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
import keras
import numpy as np
from gymnasium.vector import VectorEnv

from dqnrec_lite.config import DQNConfig
from dqnrec_lite.dqn import DQN
from dqnrec_lite.encoding import EVENTS, VIEW
from dqnrec_lite.envs.pocket import PocketShop
from dqnrec_lite.envs.shop import CATEGORIES, NUM_ITEMS, ShopVectorEnv, make_shop
from dqnrec_lite.envs.tabular import FiniteMDP, TabularVectorEnv, policy_value, value_iteration
from dqnrec_lite.evaluation import evaluate
from dqnrec_lite.studies.study import Outcome, Study, settings_of

TUNING, FRESH = range(5), range(3020, 3030)
CUSTOMERS = 10_000


@dataclass(frozen=True)
class World:
    """A world, one training call in it, and how its agent is judged.

    Args:
        make: a training seed -> sessions side by side.
        judge: an agent and its training seed -> figures, among them "score", the larger the better.
        total_steps: transitions of the call.
        matters: the difference in score that would matter, named before anything was run.
        settings: what a user would set, whatever is compared.
    """

    make: Callable[[int], VectorEnv]
    judge: Callable[[DQN, int], dict[str, float]]
    total_steps: int
    matters: float
    settings: Mapping[str, Any]


def judging_seed(seed: int) -> int:
    """Of the sessions in which the agent of a training seed is judged: nobody trains on them."""
    return 10_000 + seed


def make_customers(seed: int) -> VectorEnv:
    """The Shop, as the quickstart trains in it."""
    return make_shop(256, seed=seed)


def judge_by_customers(agent: DQN, seed: int) -> dict[str, float]:
    """Euro a session, over the same 10,000 customers for every agent of one training seed."""
    envs = make_shop(1000, seed=judging_seed(seed))
    return {"score": evaluate(agent.predict, envs, CUSTOMERS).mean}


class LastEvents:
    """The last 20 pages as they were: (n, 20 * 16) numbers, newest last, zeros before the first.

    Of a page: the item shown, one-hot, and the event. The page by which the customer came in counts
    as a view of any item of its category. Stands in for `HistoryEncoder`.
    """

    LENGTH, WIDTH = 20, NUM_ITEMS + len(EVENTS)

    def __init__(self, num_histories: int) -> None:
        self.pages = np.zeros((num_histories, self.LENGTH, self.WIDTH), np.float32)
        self._row = np.arange(num_histories)

    @property
    def vectors(self) -> np.ndarray:
        """(n, 320) float32."""
        return self.pages.reshape(len(self.pages), -1)

    def start(self, where: np.ndarray, entry: np.ndarray) -> None:
        """New histories at `where`: one view of category `entry` each."""
        self.pages[where] = 0.0
        kinds = NUM_ITEMS // len(CATEGORIES)
        for kind in range(kinds):
            self.pages[where, -1, entry * kinds + kind] = 1 / kinds
        self.pages[where, -1, NUM_ITEMS + VIEW] = 1.0

    def update(self, items: np.ndarray, events: np.ndarray) -> None:
        """Add one page to every history."""
        self.pages[:, :-1] = self.pages[:, 1:]
        self.pages[:, -1] = 0.0
        self.pages[self._row, -1, items] = self.pages[self._row, -1, NUM_ITEMS + events] = 1.0


class ShopOfEvents(ShopVectorEnv):
    """The Shop, seen as the last 20 raw events in place of the 45 numbers."""

    def __init__(self, num_envs: int, *, seed: int) -> None:
        super().__init__(num_envs, seed=seed)
        self.encoder: Any = LastEvents(num_envs)
        size = LastEvents.LENGTH * LastEvents.WIDTH
        self._set_spaces(np.zeros(size, np.float32), np.ones(size, np.float32), NUM_ITEMS)


def make_customers_of_events(seed: int) -> VectorEnv:
    """The same customers, seen as raw events."""
    return ShopOfEvents(256, seed=seed)


def judge_by_customers_of_events(agent: DQN, seed: int) -> dict[str, float]:
    """Euro a session, over the customers of `judge_by_customers`."""
    envs = ShopOfEvents(1000, seed=judging_seed(seed))
    return {"score": evaluate(agent.predict, envs, CUSTOMERS).mean}


def gru_network(seed: int) -> keras.Model:
    """A GRU of 64 units over the events, then a layer of 128."""
    keras.utils.set_random_seed(seed)  # layers draw their first weights from Keras's own state
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((LastEvents.LENGTH * LastEvents.WIDTH,)),
            layers.Reshape((LastEvents.LENGTH, LastEvents.WIDTH)),
            layers.GRU(64),
            layers.Dense(128, activation="relu"),
            layers.Dense(NUM_ITEMS),
        ]
    )


def make_pocket(seed: int) -> VectorEnv:
    """PocketShop, 64 sessions."""
    return PocketShop().vector(64, seed=seed)


def judge_exactly(agent: DQN, mdp: FiniteMDP, zero: float) -> dict[str, float]:
    """Share of the optimum that the greedy policy reaches, and the largest error of its values.

    The share is (earned - zero) / (best - zero), discounted, from the start, by a linear solve. The
    error is of max q in the states that can be reached, and counts in their optimal values' range.
    """
    discount = agent.config.discount
    best = value_iteration(mdp, discount).max(axis=1)
    q = agent.q_values(mdp.observations)
    earned = mdp.start @ policy_value(mdp, q.argmax(axis=1), discount)
    seen = mdp.reachable & ~mdp.terminal
    return {
        "score": float((earned - zero) / (mdp.start @ best - zero)),
        "largest error": float(np.abs(q.max(axis=1) - best)[seen].max() / np.ptp(best[seen])),
        "promise": float(mdp.start @ q.max(axis=1) / (mdp.start @ best)),
    }


def judge_pocket(agent: DQN, seed: int) -> dict[str, float]:
    """Exactly; 0 is nothing earned."""
    return judge_exactly(agent, PocketShop().mdp, 0.0)


def random_mdp(seed: int) -> FiniteMDP:
    """Twelve states, of which one ends the session, three actions, two or three successors each.

    Most actions pay little, a few much. The observation is one number a state.
    """
    rng = np.random.default_rng([12, seed])
    states, actions = 12, 3
    terminal = np.arange(states) == 0
    joint = np.zeros((states, actions, 1, states))
    for row in joint.reshape(-1, states):
        successors = rng.choice(states, rng.integers(2, 4), replace=False)
        row[successors] = rng.dirichlet(np.ones(len(successors)))
    joint[terminal] = np.eye(states)[terminal]
    paid = rng.random((states, actions, 1)) ** 4
    paid[terminal] = 0.0
    start = rng.dirichlet(np.ones(states)) * ~terminal
    return FiniteMDP(joint, paid, start / start.sum(), terminal, np.eye(states, dtype=np.float32))


def make_random(seed: int) -> VectorEnv:
    """Another problem for each seed, 8 sessions, cut off after 20 steps if they have not ended."""
    return TabularVectorEnv(random_mdp(seed), 8, seed=seed, page_limit=20)


def judge_random(agent: DQN, seed: int) -> dict[str, float]:
    """Exactly; 0 is the uniformly random policy: what comes by itself counts for nothing."""
    mdp = random_mdp(seed)
    chance = np.full(mdp.R.shape, 1 / mdp.R.shape[1])
    return judge_exactly(agent, mdp, float(mdp.start @ policy_value(mdp, chance, 0.9)))


def task(environment: str) -> tuple[Callable[[int], VectorEnv], Callable[..., dict[str, float]]]:
    """One of Gymnasium's tasks, 8 sessions; the mean return of 100 greedy episodes."""

    def make(seed: int) -> VectorEnv:
        return gym.make_vec(environment, num_envs=8)

    def judge(agent: DQN, seed: int) -> dict[str, float]:
        envs = gym.make_vec(environment, num_envs=100)
        returns = evaluate(agent.predict, envs, 100, judging_seed(seed)).returns
        return {"score": float(returns.mean()), "lowest": float(returns.min())}

    return make, judge


# The quickstart's. A session has some 17 pages: half of the discount's horizon is never needed.
SHOP = {"updates_per_transition": 0.02, "buffer_size": 500_000, "target_sync_every": 500}
WORLDS = {
    "shop": World(make_customers, judge_by_customers, 1_000_000, 0.15, SHOP),
    "shop of events": World(
        make_customers_of_events, judge_by_customers_of_events, 1_000_000, 0.15, SHOP
    ),
    "pocket": World(make_pocket, judge_pocket, 100_000, 0.02, {"discount": 0.95}),
    "random": World(make_random, judge_random, 40_000, 0.01, {"discount": 0.9}),
    "cartpole": World(*task("CartPole-v1"), 50_000, 25.0, {"discount": 0.99}),
    "acrobot": World(*task("Acrobot-v1"), 100_000, 10.0, {"discount": 0.99}),
}


@dataclass(frozen=True, kw_only=True)
class WorldStudy(Study):
    """Settings compared in one world; a method is changes of settings.

    Args:
        world: which one.
        base: settings that all methods share, beside the world's own.
        total_steps: transitions of a call; None: the world's.
        networks: the methods that have a network of their own, and how it is built from a seed.
    """

    world: str
    base: Mapping[str, Any] = field(default_factory=dict)
    total_steps: int | None = None
    networks: Mapping[str, Callable[[int], keras.Model]] = field(default_factory=dict)
    seeds: Any = (*TUNING, *FRESH)
    tolerance: float = 0.25  # a single seed can fail altogether

    @property
    def steps(self) -> int:
        """Transitions of a call."""
        return self.total_steps or WORLDS[self.world].total_steps

    def config(self, method: str, seed: int) -> DQNConfig:
        """The world's own settings, what all share, and the method's changes."""
        own = WORLDS[self.world].settings
        return DQNConfig(seed=seed, **{**own, **self.base, **self.methods[method]})

    def settings(self, method: str, seed: int) -> dict[str, Any]:
        """The config, and the call."""
        made = settings_of(self.config(method, seed))
        return made | {"world": self.world, "total_steps": self.steps}

    def run(self, method: str, seed: int) -> Outcome:
        """Train and judge. The curve is not kept: there are hundreds of rows."""
        world = WORLDS[self.world]
        envs = world.make(seed)
        spaces = envs.single_observation_space, envs.single_action_space
        build = self.networks.get(method)
        network = None if build is None else partial(build, seed)
        agent = DQN(*spaces, self.config(method, seed), network)
        start = time.perf_counter()
        agent.learn(envs, self.steps)
        seconds = time.perf_counter() - start
        return Outcome(seconds, world.judge(agent, seed), None)
