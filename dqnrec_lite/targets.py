"""TD targets: what Q(s, a) should be, as pure functions of NumPy arrays or TensorFlow tensors.

They use operators alone (and `argmax` through one-hot rows), so that what a reader checks with
NumPy is what the compiled training step runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # a NumPy array or a TensorFlow tensor


def td_target(
    reward: Array, terminated: Array, next_value: Array, discount: float, steps: Array = 1.0
) -> Array:
    """Target r + gamma^steps * (1 - terminated) * v(s').

    Sutton & Barto (2nd ed.), equation 7.1 for n steps, section 6.5 for one. `terminated` is 1
    where the session really ended, so that nothing follows. A session cut off by a limit
    (truncated) has `terminated` 0: the target bootstraps through the cut (Pardo et al.,
    arXiv:1712.00378).

    Args:
        reward: (...) floats, the discounted sum of `steps` rewards.
        terminated: (...) 0.0 or 1.0.
        next_value: (...) value of the state reached after `steps` steps.
        discount: gamma, in [0, 1].
        steps: (...) how many rewards `reward` holds.

    Returns:
        Target, (...) of the inputs' type.
    """
    return reward + discount**steps * (1.0 - terminated) * next_value


def dqn_value(next_q_target: Array) -> Array:
    """DQN's v(s'): the target network's best value (Mnih et al., 2015). (..., A) -> (...)."""
    if isinstance(next_q_target, np.ndarray):
        return next_q_target.max(axis=-1)
    import tensorflow as tf

    return tf.reduce_max(next_q_target, axis=-1)


def double_dqn_value(next_q_online: Array, next_q_target: Array) -> Array:
    """Double DQN's v(s'): the online network chooses, the target network values.

    van Hasselt, Guez & Silver (arXiv:1509.06461), equation 4. (..., A), (..., A) -> (...).
    """
    if isinstance(next_q_target, np.ndarray):
        best = next_q_online.argmax(axis=-1)
        return np.take_along_axis(next_q_target, best[..., None], axis=-1)[..., 0]
    import tensorflow as tf

    best = tf.argmax(next_q_online, axis=-1)
    return tf.gather(next_q_target, best, batch_dims=next_q_target.shape.rank - 1)
