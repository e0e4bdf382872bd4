"""dqnrec_lite: a deep Q-network for recommendation, its agent readable in one sitting.

The supporting package of the book *Deep Q-Learning for Recommender Systems*. Each name is imported
when it is first asked for (PEP 562), so that what needs no network starts without TensorFlow.
Importing changes nothing else than that Gymnasium learns the names of the book's environments.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

import gymnasium as _gym

if TYPE_CHECKING:
    from dqnrec_lite.config import DQNConfig
    from dqnrec_lite.curve import LearningCurve
    from dqnrec_lite.dqn import DQN
    from dqnrec_lite.envs.pocket import PocketShop
    from dqnrec_lite.envs.shop import make_shop
    from dqnrec_lite.envs.tabular import FiniteMDP, policy_value, value_iteration
    from dqnrec_lite.evaluation import Score, evaluate
    from dqnrec_lite.seeding import seed_everything

__version__ = "0.1.0"
__all__ = [
    "DQN",
    "DQNConfig",
    "FiniteMDP",
    "LearningCurve",
    "PocketShop",
    "Score",
    "evaluate",
    "make_shop",
    "policy_value",
    "seed_everything",
    "value_iteration",
]

_HOMES = {
    "DQN": "dqn",
    "DQNConfig": "config",
    "FiniteMDP": "envs.tabular",
    "LearningCurve": "curve",
    "PocketShop": "envs.pocket",
    "Score": "evaluation",
    "evaluate": "evaluation",
    "make_shop": "envs.shop",
    "policy_value": "envs.tabular",
    "seed_everything": "seeding",
    "value_iteration": "envs.tabular",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


_gym.register(
    id="dqnrec_lite/Shop-v0",
    entry_point="dqnrec_lite.envs.shop:ShopEnv",
    vector_entry_point="dqnrec_lite.envs.shop:ShopVectorEnv",
)
_gym.register(
    id="dqnrec_lite/PocketShop-v0",
    entry_point="dqnrec_lite.envs.pocket:PocketShop",
    vector_entry_point="dqnrec_lite.envs.pocket:pocket_vector_env",
)
