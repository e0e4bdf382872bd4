"""Keras 3 Q-networks: observation in, one value per action out, linear head."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from dqnrec_lite._checks import check_kind, check_sizes, check_whole


def build_q_network(
    observation_size: int,
    num_actions: int,
    hidden_sizes: Sequence[int] = (128, 128),
    dueling: bool = False,
    seed: int = 0,
) -> keras.Model:
    """A multilayer perceptron (batch, observation_size) -> (batch, num_actions), float32.

    The head is linear: an action value is any real number, so nothing may squash it.
    Initial weights are He-uniform before ReLU; the head starts near zero, so that at the
    beginning no action looks better than another by accident.

    Args:
        observation_size: length of an observation.
        num_actions: how many actions there are.
        hidden_sizes: units of each hidden ReLU layer.
        dueling: q = v + a - mean(a), equation 9 of Wang et al. (arXiv:1511.06581).
        seed: of the initial weights.

    Raises:
        TypeError: dueling is no bool.
        ValueError: a number is out of range.
    """
    check_whole("observation_size", observation_size, 1, 2**24)
    check_whole("num_actions", num_actions, 1, 2**24)
    check_sizes("hidden_sizes", hidden_sizes)
    check_kind("dueling", dueling, bool)
    check_whole("seed", seed, 0, 2**53)
    seeds = keras.random.SeedGenerator(seed)

    def dense(units: int, scale: float, activation: str | None = None) -> keras.layers.Dense:
        initializer = keras.initializers.VarianceScaling(
            scale, mode="fan_in", distribution="uniform", seed=seeds
        )
        return keras.layers.Dense(units, activation=activation, kernel_initializer=initializer)

    observation = keras.Input((observation_size,), dtype="float32", name="observation")
    hidden = observation
    for units in hidden_sizes:
        hidden = dense(units, scale=2.0, activation="relu")(hidden)
    if dueling:
        value = dense(1, scale=0.01)(hidden)
        advantage = dense(num_actions, scale=0.01)(hidden)
        q = value + advantage - keras.ops.mean(advantage, axis=-1, keepdims=True)
    else:
        q = dense(num_actions, scale=0.01)(hidden)
    return keras.Model(observation, q)


def sync(target: keras.Model, online: keras.Model, share: float = 1.0) -> None:
    """Move each weight of `target` by `share` towards that of `online`; 1.0 copies.

    A copy now and then is Mnih et al.'s (2015), a small share at each step Lillicrap et al.'s
    (arXiv:1509.02971, section 3). Runs inside compiled functions too.
    """
    for old, new in zip(target.weights, online.weights, strict=True):
        old.assign(new if share == 1.0 else share * new + (1.0 - share) * old)
