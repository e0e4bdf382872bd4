"""The learner of chapters 6 to 8 is the agent's, by hand: same gradients, same updates."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dqnrec_lite import DQN, DQNConfig, PocketShop
from dqnrec_lite.baselines.numpy_q import NumpyQ, backward, chosen_gradient, forward
from dqnrec_lite.networks import build_q_network
from dqnrec_lite.replay import Batch


def batch(shape, seed=0):
    """Random transitions, some of them ends."""
    rng = np.random.default_rng(seed)
    columns = {
        "observation": rng.normal(size=(*shape, 13)),
        "action": rng.integers(0, 6, shape),
        "reward": rng.normal(size=shape),
        "next_observation": rng.normal(size=(*shape, 13)),
        "terminated": rng.random(shape) < 0.2,
        "steps": np.ones(shape),
    }
    made = {name: array.astype(np.float32) for name, array in columns.items()}
    made["action"] = columns["action"].astype(np.int32)
    return Batch(**made)


def by_layer(weights):
    """Keras's flat list as pairs of kernel and bias, for one network of a row."""
    arrays = [np.array(array).reshape(1, -1, array.shape[-1]) for array in weights]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def flat(weights):
    return [array for layer in weights for array in layer]


def test_values_and_gradients_are_tensorflows():
    network, data = build_q_network(13, 6, hidden_sizes=(16, 8), seed=3), batch((32,))
    rng = np.random.default_rng(1)
    network.set_weights([rng.normal(0, 0.5, w.shape) for w in network.get_weights()])
    with tf.GradientTape() as tape:
        q = network(data.observation)
        chosen = tf.reduce_sum(q * tf.one_hot(data.action, 6), axis=-1)
        loss = tf.reduce_mean(0.5 * (data.reward - chosen) ** 2)
    reference = tape.gradient(loss, network.trainable_variables)
    weights = by_layer(network.get_weights())
    ours, inputs = forward(weights, data.observation)
    np.testing.assert_allclose(ours[0], q, atol=1e-4)
    slopes = backward(weights, inputs, chosen_gradient(ours, data.action, data.reward))
    for slope, theirs in zip(flat(slopes), reference, strict=True):
        np.testing.assert_allclose(slope.reshape(theirs.shape), theirs, atol=1e-5)


def test_the_first_weights_are_spread_like_the_packages():
    ours = flat(NumpyQ(13, 6, hidden_sizes=(64, 64)).q_network)
    theirs = build_q_network(13, 6, hidden_sizes=(64, 64)).get_weights()
    for our, their in zip(ours, theirs, strict=True):
        assert np.isclose(our.std(), np.std(their), rtol=0.15)


@pytest.mark.parametrize(("period", "share"), [(5, 1.0), (1, 0.1)])
def test_twelve_updates_are_the_agents(period, share):
    """Hard copies and Polyak averaging, with the package's compiled updates as the judge."""
    shop, data = PocketShop(), batch((12, 32))
    settings = {"target_sync_every": 5} if share == 1.0 else {"target_tau": share}
    config = DQNConfig(discount=0.95, hidden_sizes=(64,), batch_size=32, **settings)
    agent = DQN(shop.observation_space, shop.action_space, config)
    learner = NumpyQ(13, 6, hidden_sizes=(64,), learning_rate=2e-3)
    learner.q_network = by_layer(agent.q_network.get_weights())
    learner.target_network = by_layer(agent.target_network.get_weights())
    for number in range(12):
        learner.update(data.apply(lambda column, row=number: column[row]), discount=0.95)
        if learner.updates % period == 0:
            learner.sync(share)
    agent.updater.run(data.apply(tf.constant), before=0, learning_rate=2e-3, sync_every=5)
    ours = flat(learner.q_network) + flat(learner.target_network)
    theirs = agent.q_network.get_weights() + agent.target_network.get_weights()
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our.reshape(their.shape), their, atol=1e-4)


def test_side_by_side_is_one_at_a_time():
    data, together = batch((2, 32)), NumpyQ(13, 6, seeds=(4, 5))
    for _ in range(3):
        together.update(data, discount=0.9)
        together.sync(0.5)
    for number, seed in enumerate((4, 5)):
        alone = NumpyQ(13, 6, seeds=(seed,))
        for _ in range(3):
            alone.update(data.apply(lambda column, row=number: column[row]), discount=0.9)
            alone.sync(0.5)
        ours, theirs = flat(alone.target_network), flat(together.target_network)
        for our, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(our[0], their[number], atol=1e-6)


def test_plain_steps_are_keras_sgd():
    variable = keras.Variable(np.zeros((1, 6), np.float32))
    learner = NumpyQ(13, 6, learning_rate=0.5, adam=False)
    learner.step(np.zeros((1, 13), np.float32), lambda q: q * 0 + 3.0)  # moves the last bias only
    keras.optimizers.SGD(0.5).apply([np.full((1, 6), 3.0, np.float32)], [variable])
    np.testing.assert_allclose(learner.q_network[-1][1][0], variable.numpy())


def test_a_copy_is_no_alias():
    learner = NumpyQ(13, 6)
    learner.sync()
    learner.update(batch((32,)), discount=0.9)
    assert not np.array_equal(learner.q_network[-1][1], learner.target_network[-1][1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"hidden_sizes": (0,)}, "hidden_sizes"), ({"learning_rate": -1.0}, "learning_rate")],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        NumpyQ(13, 6, **settings)
