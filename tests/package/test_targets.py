"""TD targets: hand-computed numbers, and one formula for NumPy and TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from dqnrec_lite.targets import double_dqn_value, dqn_value, td_target

Q_ONLINE = np.array([[1.0, 5.0, 3.0], [0.0, -1.0, -2.0]], np.float32)
Q_TARGET = np.array([[10.0, 2.0, 7.0], [-4.0, 9.0, 1.0]], np.float32)


def test_dqn_takes_the_target_networks_best():
    np.testing.assert_array_equal(dqn_value(Q_TARGET), [10.0, 9.0])


def test_double_dqn_lets_the_online_network_choose_and_the_target_network_value():
    np.testing.assert_array_equal(double_dqn_value(Q_ONLINE, Q_TARGET), [2.0, -4.0])


def test_the_target_bootstraps_unless_the_session_really_ended():
    """r = 1, gamma = 0.9, v = 10: cut off by a limit 1 + 9 = 10, ended 1."""
    target = td_target(np.ones(2), np.array([0.0, 1.0]), np.full(2, 10.0), 0.9)
    np.testing.assert_allclose(target, [10.0, 1.0])


def test_n_steps_discount_the_bootstrap_n_times():
    target = td_target(np.zeros(3), np.zeros(3), np.full(3, 8.0), 0.5, np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(target, [4.0, 2.0, 1.0])


@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_the_ends_of_the_discount(discount):
    target = td_target(np.array([2.0]), np.zeros(1), np.array([7.0]), discount, np.array([3.0]))
    np.testing.assert_allclose(target, 2.0 + 7.0 * discount)


@pytest.mark.parametrize("shape", [(5,), (4, 5)])
def test_numpy_and_tensorflow_compute_the_same(shape):
    rng = np.random.default_rng(0)
    online, target = rng.normal(size=(2, *shape, 6)).astype(np.float32)
    reward = rng.normal(size=shape).astype(np.float32)
    terminated = rng.integers(0, 2, shape).astype(np.float32)
    steps = rng.integers(1, 4, shape).astype(np.float32)
    tensors = [tf.constant(a) for a in (online, target, reward, terminated, steps)]

    @tf.function(jit_compile=True)
    def compiled(online, target, reward, terminated, steps):
        values = dqn_value(target), double_dqn_value(online, target)
        return *values, *(td_target(reward, terminated, v, 0.95, steps) for v in values)

    values = dqn_value(target), double_dqn_value(online, target)
    ours = *values, *(td_target(reward, terminated, v, 0.95, steps) for v in values)
    for a, b in zip(ours, compiled(*tensors), strict=True):
        assert a.shape == shape
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-6, atol=1e-6)


def test_double_dqn_is_never_above_dqn_and_meets_it_where_the_networks_agree():
    rng = np.random.default_rng(1)
    online, target = rng.normal(size=(2, 1000, 4))
    assert (double_dqn_value(online, target) <= dqn_value(target)).all()
    np.testing.assert_array_equal(double_dqn_value(target, target), dqn_value(target))
