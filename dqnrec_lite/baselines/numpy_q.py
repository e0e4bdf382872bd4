"""A Q-network by hand, in NumPy: many small networks side by side (chapters 6 to 8).

For reading, and for experiments with many seeds that a laptop should finish in a minute. The agent
is `dqnrec_lite.DQN`; this learner agrees with it update by update (tests/package/test_numpy_q.py).

Weights are a list of layers from the first to the head, each a pair of arrays: kernel
(networks, inputs, units) and bias (networks, 1, units). One network alone may leave the first axis
out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from dqnrec_lite._checks import check_number, check_sizes, check_whole
from dqnrec_lite.replay import Batch
from dqnrec_lite.targets import dqn_value, td_target

Weights = list[tuple[np.ndarray, np.ndarray]]


def new_weights(
    observation_size: int,
    num_actions: int,
    hidden_sizes: Sequence[int] = (64,),
    seeds: Sequence[int] = (0,),
) -> Weights:
    """First weights as `build_q_network` draws them, float32: one network for each seed.

    He-uniform kernels before ReLU, a head near zero, biases 0. The numbers are not Keras's: the
    generators differ.
    """
    dice = [np.random.default_rng(seed) for seed in seeds]
    sizes = [observation_size, *hidden_sizes, num_actions]
    weights = []
    for number, (inputs, units) in enumerate(pairwise(sizes)):
        scale = 2.0 if number < len(hidden_sizes) else 0.01
        limit = np.sqrt(3 * scale / inputs)
        kernel = np.stack([each.uniform(-limit, limit, (inputs, units)) for each in dice])
        bias = np.zeros((len(seeds), 1, units), np.float32)
        weights.append((kernel.astype(np.float32), bias))
    return weights


def forward(weights: Weights, observation: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Action values (..., batch, actions), and what went into each layer, first to last.

    observation: (batch, observation), the same for all networks, or (networks, batch, observation).
    """
    inputs = [observation]
    *hidden, head = weights
    for kernel, bias in hidden:
        inputs.append(np.maximum(inputs[-1] @ kernel + bias, 0))
    kernel, bias = head
    return inputs[-1] @ kernel + bias, inputs


def backward(weights: Weights, inputs: list[np.ndarray], flow: np.ndarray) -> Weights:
    """The gradient of a loss for each weight, by the chain rule, from the head to the first layer.

    inputs: as `forward` returned them. flow: (..., batch, actions), the loss's gradient for q.
    """
    gradients: Weights = []
    for (kernel, _), layer_input in zip(reversed(weights), reversed(inputs), strict=True):
        for_kernel = np.swapaxes(layer_input, -1, -2) @ flow
        gradients.insert(0, (for_kernel, flow.sum(axis=-2, keepdims=True)))
        flow = (flow @ np.swapaxes(kernel, -1, -2)) * (layer_input > 0)
    return gradients


def chosen_gradient(q: np.ndarray, action: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Gradient for q of half the mean squared error of the chosen actions: 0 for all others.

    q: (..., batch, actions). action, target: (batch,) or (..., batch).
    """
    chosen = np.eye(q.shape[-1], dtype=q.dtype)[action]
    return chosen * (q - target[..., None]) / action.shape[-1]


class NumpyQ:
    """Q-networks with their target networks, one pair for each seed, learning side by side.

    Mnih et al. (2015), algorithm 1, without its loop: `update` is one gradient step on a batch for
    each network, `sync` copies. Steps are Adam's with Keras's constants (Kingma & Ba,
    arXiv:1412.6980) or plain gradient descent's.

    Attributes:
        q_network, target_network: `Weights`.
        updates: gradient steps so far.
    """

    def __init__(
        self,
        observation_size: int,
        num_actions: int,
        hidden_sizes: Sequence[int] = (64,),
        seeds: Sequence[int] = (0,),
        learning_rate: float = 1e-3,
        adam: bool = True,
    ) -> None:
        """
        Args:
            observation_size: length of an observation.
            num_actions: how many actions there are.
            hidden_sizes: units of each hidden ReLU layer.
            seeds: of the first weights; as many networks as seeds.
            learning_rate: step size.
            adam: Adam; False: plain gradient descent.

        Raises:
            TypeError: a number is none.
            ValueError: a number is out of range.
        """
        check_whole("observation_size", observation_size, 1, 2**24)
        check_whole("num_actions", num_actions, 1, 2**24)
        check_sizes("hidden_sizes", hidden_sizes)
        check_number("learning_rate", learning_rate, 0.0, 1e6)
        self.q_network = new_weights(observation_size, num_actions, hidden_sizes, seeds)
        self.target_network = _copied(self.q_network)
        self.learning_rate, self.adam, self.updates = learning_rate, adam, 0
        self._moments = [
            [(np.zeros_like(array), np.zeros_like(array)) for array in layer]
            for layer in self.q_network
        ]

    def q_values(self, observation: np.ndarray) -> np.ndarray:
        """(batch, observation) or (networks, batch, observation) -> (networks, batch, actions)."""
        return forward(self.q_network, observation)[0]

    def update(self, batch: Batch, discount: float) -> None:
        """One gradient step on the squared TD error; arrays (networks, batch, ...) or (batch, ...).

        Nothing passes through the target: it is made of numbers of the target network.
        """
        next_q, _ = forward(self.target_network, batch.next_observation)
        target = td_target(
            batch.reward, batch.terminated, dqn_value(next_q), discount, batch.steps
        ).astype(np.float32)
        self.step(batch.observation, lambda q: chosen_gradient(q, batch.action, target))

    def step(self, observation: np.ndarray, rule: Callable[[np.ndarray], np.ndarray]) -> None:
        """One gradient step for any loss: rule(q) is its gradient for q, of q's shape."""
        q, inputs = forward(self.q_network, observation)
        gradients = backward(self.q_network, inputs, rule(q))
        self.updates += 1
        rate = np.float32(self.learning_rate)
        if self.adam:
            rate *= np.float32(np.sqrt(1 - 0.999**self.updates) / (1 - 0.9**self.updates))
        for layer, slopes, moments in zip(self.q_network, gradients, self._moments, strict=True):
            for array, slope, (mean, square) in zip(layer, slopes, moments, strict=True):
                if not self.adam:
                    array -= rate * slope
                    continue
                mean += np.float32(0.1) * (slope - mean)
                square += np.float32(0.001) * (slope * slope - square)
                array -= rate * mean / (np.sqrt(square) + np.float32(1e-7))

    def sync(self, share: float = 1.0) -> None:
        """Move each weight of the target networks by `share` towards the online one; 1 copies."""
        for old_layer, new_layer in zip(self.target_network, self.q_network, strict=True):
            for old, new in zip(old_layer, new_layer, strict=True):
                old[...] = np.float32(share) * new + np.float32(1 - share) * old


def _copied(weights: Weights) -> Weights:
    return [(kernel.copy(), bias.copy()) for kernel, bias in weights]
