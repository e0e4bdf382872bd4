"""TD targets: what Q(s, a) should be, as pure functions of NumPy arrays or TensorFlow tensors.

They use operators alone (and `argmax` through one-hot rows), so that what a reader checks with
NumPy is what the compiled training step runs.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import tensorflow as tf

from dqnrec_lite._checks import check_array, check_flags, check_kind, check_number, check_shapes

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

    Raises:
        ValueError: of NumPy arrays and numbers: NumPy cannot broadcast the shapes, one is not
            finite, terminated is neither 0 nor 1, or discount lies outside [0, 1].
    """
    arrays = {"reward": reward, "terminated": terminated, "next_value": next_value, "steps": steps}
    if all(isinstance(array, (np.ndarray, Real)) for array in arrays.values()):
        for name, array in arrays.items():
            check_array(name, array)
        check_shapes(**arrays)
        check_flags("terminated", terminated)
        check_number("discount", discount, 0.0, 1.0)
    else:
        for name, array in arrays.items():
            check_kind(name, array, np.ndarray, Real, tf.Tensor, tf.Variable)
    return reward + discount**steps * (1.0 - terminated) * next_value


def dqn_value(next_q_target: Array) -> Array:
    """DQN's v(s'): the target network's best value (Mnih et al., 2015). (..., A) -> (...)."""
    if _is_numpy("next_q_target", next_q_target):
        return next_q_target.max(axis=-1)
    return tf.reduce_max(next_q_target, axis=-1)


def double_dqn_value(next_q_online: Array, next_q_target: Array) -> Array:
    """Double DQN's v(s'): the online network chooses, the target network values.

    van Hasselt, Guez & Silver (arXiv:1509.06461), equation 4. (..., A), (..., A) -> (...).
    """
    numpy = _is_numpy("next_q_target", next_q_target)
    if _is_numpy("next_q_online", next_q_online) and numpy:
        if next_q_online.shape != next_q_target.shape:
            raise ValueError(
                f"next_q_online: shape {next_q_target.shape} of next_q_target expected, "
                f"got {next_q_online.shape}"
            )
        best = next_q_online.argmax(axis=-1)
        return np.take_along_axis(next_q_target, best[..., None], axis=-1)[..., 0]
    best = tf.argmax(next_q_online, axis=-1)
    return tf.gather(next_q_target, best, batch_dims=next_q_target.shape.rank - 1)


def _is_numpy(name: str, q: Array) -> bool:
    """Is q a NumPy array? Then it must hold values of actions; -inf rules an action out."""
    check_kind(name, q, np.ndarray, tf.Tensor, tf.Variable)
    if not isinstance(q, np.ndarray):
        return False
    if q.dtype.kind not in "fiu" or q.ndim == 0 or 0 in q.shape[-1:] or np.isnan(q).any():
        raise ValueError(
            f"{name}: (..., actions) numbers, none of them NaN, expected, got {q.dtype} of shape "
            f"{q.shape}"
        )
    return True
