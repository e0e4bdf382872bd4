"""TD targets: what Q(s, a) should be, as pure functions of NumPy arrays or TensorFlow tensors.

What a reader checks with NumPy is what the compiled training step runs. TensorFlow is imported
where a tensor comes, and not before: who needs NumPy only starts without it.
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
        Target, (...) of the inputs' type. Shapes broadcast, (batch, 1) and (batch,) too.
    """
    return reward + discount**steps * (1.0 - terminated) * next_value


def dqn_value(next_q_target: Array, action_mask: Array | None = None) -> Array:
    """DQN's v(s'): the target network's best value (Mnih et al., 2015).

    Args:
        next_q_target: (..., A), the target network's q(s', .).
        action_mask: (..., A) bool, what is allowed at s'; None: all is.

    Returns:
        (...), of the input's type.
    """
    allowed = _allowed(next_q_target, action_mask)
    if isinstance(allowed, np.ndarray):
        return allowed.max(axis=-1)
    import tensorflow as tf

    return tf.reduce_max(allowed, axis=-1)


def double_dqn_value(
    next_q_online: Array, next_q_target: Array, action_mask: Array | None = None
) -> Array:
    """Double DQN's v(s'): the online network chooses, the target network values.

    van Hasselt, Guez & Silver (arXiv:1509.06461), equation 4.

    Args:
        next_q_online: (..., A), the online network's q(s', .).
        next_q_target: (..., A), the target network's.
        action_mask: (..., A) bool, what is allowed at s'; None: all is.

    Returns:
        (...), of the inputs' type.

    Raises:
        ValueError: the two differ in shape.
    """
    if tuple(next_q_online.shape) != tuple(next_q_target.shape):
        raise ValueError(
            f"next_q_online: shape {next_q_target.shape} of next_q_target expected, "
            f"got {next_q_online.shape}"
        )
    allowed = _allowed(next_q_online, action_mask)
    if isinstance(allowed, np.ndarray):
        best = allowed.argmax(axis=-1)
        return np.take_along_axis(next_q_target, best[..., None], axis=-1)[..., 0]
    import tensorflow as tf

    best = tf.argmax(allowed, axis=-1)
    return tf.gather(next_q_target, best, batch_dims=next_q_target.shape.rank - 1)


def _allowed(q: Array, action_mask: Array | None) -> Array:
    """The values, and -inf for each action that the mask forbids."""
    if action_mask is None:
        return q
    if isinstance(q, np.ndarray):
        return np.where(action_mask, q, -np.inf)
    import tensorflow as tf

    return tf.where(action_mask, q, -np.inf)
