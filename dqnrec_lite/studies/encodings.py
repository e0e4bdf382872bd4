"""What a DQN earns on PocketShop that sees an encoding of the history, and not the state.

Pages, gradient steps, network and customers are the same for all; only the vector differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorWrapper
from gymnasium.vector.utils import batch_space

from dqnrec_lite.config import DQNConfig
from dqnrec_lite.dqn import DQN
from dqnrec_lite.encoding import BUY, IGNORE, VIEW, HistoryEncoder
from dqnrec_lite.envs.pocket import CATEGORIES, GONE, ITEMS, KINDS, MARGIN, PocketShop
from dqnrec_lite.studies.study import Outcome, Study, settings_of

PAGES, LANES, CUSTOMERS = 100_000, 256, 10_000  # to learn from, side by side; to be judged by
DISCOUNT = 0.95


class Encoder(Protocol):
    """Vectors of many customers, kept up to date page by page."""

    vectors: np.ndarray  # (n, size) float32

    def start(self, where: np.ndarray) -> None:
        """New customers at these places."""

    def update(self, items: np.ndarray, events: np.ndarray) -> None:
        """One page more for every customer."""


class CountEncoder:
    """Counts by category and event, 12 numbers; a page of age k counts decay ** k."""

    def __init__(self, num_histories: int, decay: float) -> None:
        self.decay = np.float32(decay)
        self.row = np.arange(num_histories)
        self.vectors = np.zeros((num_histories, 12), np.float32)

    def start(self, where: np.ndarray) -> None:
        self.vectors[where] = 0.0

    def update(self, items: np.ndarray, events: np.ndarray) -> None:
        self.vectors *= self.decay
        self.vectors[self.row, 4 * (items // 2) + events] += 1.0


class KindEncoder(CountEncoder):
    """`CountEncoder`, and the same by kind, 8 numbers more."""

    def __init__(self, num_histories: int, decay: float) -> None:
        super().__init__(num_histories, decay)
        self.vectors = np.zeros((num_histories, 20), np.float32)

    def update(self, items: np.ndarray, events: np.ndarray) -> None:
        super().update(items, events)
        self.vectors[self.row, 12 + 4 * (items % 2) + events] += 1.0


class SpendingEncoder(CountEncoder):
    """`CountEncoder`, and what was spent so far, in euro times `scale`; it does not fade."""

    def __init__(self, num_histories: int, decay: float, scale: float) -> None:
        super().__init__(num_histories, decay)
        self.vectors = np.zeros((num_histories, 13), np.float32)
        self.scale = scale

    def update(self, items: np.ndarray, events: np.ndarray) -> None:
        spent = self.vectors[:, 12] + self.scale * MARGIN[items] * (events == BUY)
        super().update(items, events)
        self.vectors[:, 12] = spent


class LastPages:
    """Category, kind and event of the last pages, newest first, one-hot: 9 numbers a page."""

    def __init__(self, num_histories: int, pages: int) -> None:
        self.row = np.arange(num_histories)
        self.vectors = np.zeros((num_histories, 9 * pages), np.float32)

    def start(self, where: np.ndarray) -> None:
        self.vectors[where] = 0.0

    def update(self, items: np.ndarray, events: np.ndarray) -> None:
        self.vectors = np.roll(self.vectors, 9, axis=1)
        self.vectors[:, :9] = 0.0
        for place in (items // 2, 3 + items % 2, 5 + events):
            self.vectors[self.row, place] = 1.0


class PocketHistory(HistoryEncoder):
    """The package's encoder, 34 numbers; nobody knows by which page a customer came in."""

    def __init__(self, num_histories: int) -> None:
        sizes = len(CATEGORIES), len(KINDS)
        super().__init__(num_histories, *sizes, page_limit=40, decay=0.6)
        self.vectors[:] = 0.0

    def start(self, where: np.ndarray, entry: np.ndarray | None = None) -> None:
        self.vectors[where] = 0.0


class BeliefEncoder:
    """The probability of each live state, 80 numbers: it needs the tables of the world."""

    def __init__(self, num_histories: int) -> None:
        mdp = PocketShop().mdp
        self.moves, self.first = mdp.joint[:GONE, :, :, :GONE].astype(np.float32), mdp.start[:GONE]
        self.vectors = np.zeros((num_histories, GONE), np.float32)

    def start(self, where: np.ndarray) -> None:
        self.vectors[where] = self.first

    def update(self, items: np.ndarray, events: np.ndarray) -> None:
        for item, event in product(range(len(ITEMS)), (IGNORE, VIEW, BUY)):
            who = np.flatnonzero((items == item) & (events == event))
            moved = self.vectors[who] @ self.moves[:, item, event]
            self.vectors[who] = moved / moved.sum(axis=1, keepdims=True)


class Remembering(VectorWrapper):
    """PocketShop whose observation is an encoding of what the shop has seen."""

    def __init__(self, encoder: Callable[[int], Encoder], num_envs: int, seed: int) -> None:
        super().__init__(PocketShop().vector(num_envs, seed=seed))
        self.encoder = encoder(num_envs)
        size = self.encoder.vectors.shape[1]
        self.single_observation_space = gym.spaces.Box(0, np.inf, (size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.env.reset(seed=seed)
        self.encoder.start(np.arange(self.num_envs))
        return self.encoder.vectors.copy(), {}

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        _, reward, terminated, truncated, info = self.env.step(actions)
        self.encoder.update(actions, info["event"])
        ended = terminated | truncated
        info |= {"final_obs": self.encoder.vectors.copy(), "_final_obs": ended}
        self.encoder.start(np.flatnonzero(ended))
        return self.encoder.vectors.copy(), reward, terminated, truncated, info


def worth(agent: DQN, encoder: Callable[[int], Encoder], seed: int) -> float:
    """Mean discounted return of the greedy policy, in euro, of `CUSTOMERS` new customers."""
    envs = Remembering(encoder, CUSTOMERS, seed)
    observation, _ = envs.reset(seed=seed)
    earned, here, weight = np.zeros(CUSTOMERS), np.ones(CUSTOMERS, bool), 1.0
    while weight * here.mean() > 1e-3:  # what is still to come is less than a cent
        observation, reward, terminated, _, _ = envs.step(agent.predict(observation))
        earned += here * weight * reward
        here, weight = here & ~terminated, weight * DISCOUNT
    return float(earned.mean())


@dataclass(frozen=True, kw_only=True)
class EncodingStudy(Study):
    """One encoding a method."""

    methods: Mapping[str, Callable[[int], Encoder]]

    def config(self, seed: int) -> DQNConfig:
        """The package's defaults, but for a smaller network and fewer gradient steps a page."""
        return DQNConfig(
            seed=seed, discount=DISCOUNT, hidden_sizes=(64, 64), updates_per_transition=0.05
        )

    def settings(self, method: str, seed: int) -> dict[str, Any]:
        """The config, and how many pages and customers."""
        sizes = {"pages": PAGES, "lanes": LANES, "customers": CUSTOMERS}
        return settings_of(self.config(seed)) | sizes

    def run(self, method: str, seed: int) -> Outcome:
        """Train, then serve new customers, the same for all methods of a seed."""
        encoder, start = self.methods[method], time.perf_counter()
        envs = Remembering(encoder, LANES, seed)
        spaces = envs.single_observation_space, envs.single_action_space
        agent = DQN(*spaces, self.config(seed))
        agent.learn(envs, PAGES, progress=False)
        seconds = time.perf_counter() - start
        figures = {"numbers": envs.encoder.vectors.shape[1]}
        return Outcome(seconds, figures | {"euro": worth(agent, encoder, seed + 1000)}, None)


STUDY = EncodingStudy(
    name="encodings",
    methods={
        **{
            f"counts, decay {d}": partial(CountEncoder, decay=d) for d in (0.0, 0.3, 0.6, 0.85, 1.0)
        },
        "counts by kind too, decay 0.6": partial(KindEncoder, decay=0.6),
        "last page": partial(LastPages, pages=1),
        "last two pages": partial(LastPages, pages=2),
        "HistoryEncoder, decay 0.6": PocketHistory,
        "belief": BeliefEncoder,
        "and spent, in 4 euro": partial(SpendingEncoder, decay=0.6, scale=0.25),
        "and spent, in cents": partial(SpendingEncoder, decay=0.6, scale=100.0),
    },
)
