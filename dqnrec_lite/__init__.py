"""dqnrec_lite: a deep Q-network for recommendation that can be read in one sitting.

The supporting package of the book *Deep Q-Learning for Recommender Systems*.
"""

import os as _os

import gymnasium as _gym


def _import_tensorflow() -> None:
    """Quietly, and with one thread an operation unless the environment says otherwise.

    Its start-up messages, which C++ writes to file descriptor 2, are no result and no error; since
    TensorFlow 2.21 no setting hides them all. Two threads share a product of matrices as small as
    the book's more slowly than one computes it, and the other cores have their own work: acting.
    So the bits do not depend on the number of cores either. TensorFlow reads the setting when it
    computes first; it holds for the whole process.
    """
    _os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    _os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr, nowhere = _os.dup(2), _os.open(_os.devnull, _os.O_WRONLY)
    _os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        _os.dup2(stderr, 2)
        _os.close(stderr)
        _os.close(nowhere)


_import_tensorflow()

from dqnrec_lite.agent import DQN, seed_everything
from dqnrec_lite.config import DQNConfig
from dqnrec_lite.curve import LearningCurve
from dqnrec_lite.envs.pocket import PocketShop
from dqnrec_lite.envs.shop import make_shop
from dqnrec_lite.envs.tabular import FiniteMDP, policy_value, value_iteration
from dqnrec_lite.evaluation import Score, evaluate

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
