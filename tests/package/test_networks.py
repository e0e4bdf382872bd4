"""Q-networks: shapes, a head that squashes nothing, and the dueling identity."""

import numpy as np
import pytest
import tensorflow as tf

from dqnrec_lite.networks import build_q_network

OBSERVATIONS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("hidden_sizes", [(), (8,), (16, 4)])
def test_one_value_an_action_for_each_row(dueling, hidden_sizes):
    network = build_q_network(5, 3, hidden_sizes, dueling)
    q = network(OBSERVATIONS)
    assert q.shape == (7, 3)
    assert q.dtype == tf.float32


def test_the_layers_have_the_sizes_asked_for():
    kernels = [v.shape for v in build_q_network(5, 3, (16, 4)).variables if v.ndim == 2]
    assert kernels == [(5, 16), (16, 4), (4, 3)]


@pytest.mark.parametrize("dueling", [False, True])
def test_the_head_is_linear(dueling):
    """Scaling the head scales the values without bound, below zero too."""
    network = build_q_network(5, 3, (16,), dueling)
    q = network(OBSERVATIONS).numpy()
    head = [v for v in network.variables if v.shape[0] == 16 and v.ndim == 2]
    assert len(head) == 1 + dueling
    for kernel in head:
        kernel.assign(kernel * -1e5)
    np.testing.assert_allclose(network(OBSERVATIONS), -1e5 * q, rtol=1e-3)
    assert np.abs(network(OBSERVATIONS)).max() > 100


def test_dueling_is_value_plus_advantage_less_its_mean():
    network = build_q_network(5, 3, (16,), dueling=True)
    rng = np.random.default_rng(3)
    for variable in network.variables:
        variable.assign(rng.normal(size=variable.shape))
    hidden_kernel, hidden_bias, *heads = [v.numpy() for v in network.variables]
    hidden = np.maximum(OBSERVATIONS @ hidden_kernel + hidden_bias, 0)
    outputs = [hidden @ k + b for k, b in zip(heads[::2], heads[1::2], strict=True)]
    value, advantage = sorted(outputs, key=lambda output: output.shape[1])
    expected = value + advantage - advantage.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(network(OBSERVATIONS), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(network(OBSERVATIONS).numpy().mean(1), value[:, 0], rtol=1e-3)


def test_at_the_beginning_no_action_looks_much_better_than_another():
    q = build_q_network(5, 3, (64, 64))(OBSERVATIONS).numpy()
    assert 0 < np.abs(q).max() < 0.5


def test_the_seed_decides_the_weights():
    one, two, other = (build_q_network(5, 3, (8,), seed=s).get_weights() for s in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_hidden_weights_keep_the_size_of_what_passes_through():
    """He's start: uniform, variance 2 over the inputs: ReLU layers neither fade nor grow."""
    for kernel in build_q_network(50, 3, (400, 300), seed=3).get_weights()[0:4:2]:
        bound = np.sqrt(6 / kernel.shape[0])
        assert np.abs(kernel).max() <= bound
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.03)
