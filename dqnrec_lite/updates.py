"""Gradient steps: the loss of one batch, one step, many steps in one compiled call, and a thread.

All of it knows networks and batches, and nothing of sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dqnrec_lite.config import DQNConfig
from dqnrec_lite.networks import sync
from dqnrec_lite.replay import Batch
from dqnrec_lite.targets import double_dqn_value, dqn_value, td_target

UPDATES_PER_CALL = 32  # gradient steps in one compiled call


class Loss(NamedTuple):
    """The loss of a batch, and what it is made of."""

    loss: tf.Tensor  # () float32, to be made small
    td_error: tf.Tensor  # (batch,) float32, target - q(s, a)
    q_value: tf.Tensor  # (batch,) float32, q(s, a)


class Learnt(NamedTuple):
    """What one call of updates hands back."""

    td_error: tf.Tensor  # () mean |target - q(s, a)| over its updates
    q_value: tf.Tensor  # () mean q(s, a) over the same
    weights: list[tf.Tensor]  # of the online network after the last of them
    serial: tf.Tensor | None  # (count, batch_size) int64, of prioritised batches, and their
    td_errors: tf.Tensor | None  # (count, batch_size) target - q(s, a); None: drawn uniformly


class Updates:
    """Moves the online network towards its TD targets, and the target network after it.

    Args:
        q_network: the online network, (batch, observation_size) -> (batch, actions).
        target_network: another of the same shape.
        observation_size: length of an observation.
        actions: what the environment calls them; the first belongs to the first output.
        config: the settings.
    """

    def __init__(
        self,
        q_network: keras.Model,
        target_network: keras.Model,
        observation_size: int,
        actions: range,
        config: DQNConfig,
    ) -> None:
        self.q_network, self.target_network = q_network, target_network
        self.observation_size, self.actions, self.config = observation_size, actions, config
        self.optimizer = keras.optimizers.Adam(config.learning_rate, name="adam")
        self.optimizer.build(q_network.trainable_variables)
        self._compiled: dict[tuple[bool, bool], Callable[..., Learnt]] = {}

    def loss(self, batch: Batch) -> Loss:
        """Half the squared TD error, or Huber's, on chosen actions; targets have no gradient."""
        mask, next_q = batch.next_action_mask, self.target_network(batch.next_observation)
        if self.config.double:
            next_value = double_dqn_value(self.q_network(batch.next_observation), next_q, mask)
        else:
            next_value = dqn_value(next_q, mask)
        discount = self.config.discount
        target = td_target(batch.reward, batch.terminated, next_value, discount, batch.steps)
        chosen = tf.one_hot(batch.action - self.actions.start, len(self.actions))
        q = tf.reduce_sum(self.q_network(batch.observation) * chosen, axis=-1)
        error = tf.stop_gradient(target) - q
        squared, size = 0.5 * error**2, tf.abs(error)
        each = squared if self.config.loss == "mse" else tf.where(size <= 1.0, squared, size - 0.5)
        if batch.weight is not None:
            each = batch.weight * each
        return Loss(tf.reduce_mean(each), error, q)

    def step(self, batch: Batch) -> Loss:
        """One gradient step on one batch; the loss before it."""
        with tf.GradientTape() as tape:
            found = self.loss(batch)
        variables = self.q_network.trainable_variables
        self.optimizer.apply(tape.gradient(found.loss, variables), variables)
        return found

    def sync_if_due(self, update: tf.Tensor | int, every: tf.Tensor | int) -> None:
        """Move the target network, if its turn has come, after gradient step number `update`."""
        if self.config.target_tau is not None:
            sync(self.target_network, self.q_network, self.config.target_tau)
        else:
            tf.cond(
                tf.equal(update % every, 0),
                lambda: sync(self.target_network, self.q_network),
                lambda: None,
            )

    def run(self, batches: Batch, before: int, learning_rate: float, sync_every: int) -> Learnt:
        """One gradient step for each leading row of `batches`, in one compiled call.

        Args:
            batches: tensors (count, batch_size, ...).
            before: gradient steps made before these; decides when the target network moves.
            learning_rate: Adam's step size.
            sync_every: gradient steps between two hard copies into the target network.

        Raises:
            ValueError: training diverges.
        """
        kind = batches.next_action_mask is not None, batches.weight is not None
        if kind not in self._compiled:
            self._compiled[kind] = self._compile(*kind)
        counts = tf.constant(before, tf.int64), tf.constant(sync_every, tf.int64)
        learnt = self._compiled[kind](batches, *counts, tf.constant(learning_rate, tf.float32))
        self.check_not_diverged([learnt.td_error], before + batches.action.shape[0])
        return learnt

    def check_not_diverged(self, values: list[Any], updates: int) -> None:
        """A ValueError if something in these arrays or tensors is not finite."""
        if not all(np.isfinite(value).all() for value in values):
            raise ValueError(
                f"training diverged: TD errors or weights are not finite after {updates} updates; "
                f"try a learning_rate below {self.config.learning_rate}"
            )

    def _run(
        self, batches: Batch, before: tf.Tensor, sync_every: tf.Tensor, learning_rate: tf.Tensor
    ) -> Learnt:
        """`run` before it is compiled: all numbers are tensors."""
        self.optimizer.learning_rate = learning_rate  # a variable of Keras: assigned in each call
        count = tf.shape(batches.action)[0]

        each = () if batches.serial is None else (tf.TensorArray(tf.float32, count),)

        def one_step(i: tf.Tensor, td_error: tf.Tensor, q: tf.Tensor, *each: Any) -> tuple:
            found = self.step(batches.apply(lambda array: array[i]))
            self.sync_if_due(before + tf.cast(i, tf.int64) + 1, sync_every)
            size, value = tf.reduce_mean(tf.abs(found.td_error)), tf.reduce_mean(found.q_value)
            each = tuple(errors.write(i, found.td_error) for errors in each)
            return i + 1, td_error + size, q + value, *each

        start = 0, 0.0, 0.0, *each
        _, td_error, q_value, *each = tf.while_loop(lambda i, *_: i < count, one_step, start)
        number = tf.cast(count, tf.float32)
        # Copies: the next call may be moving the network when these are taken over.
        weights = [tf.identity(weight.value) for weight in self.q_network.weights]
        td_errors = each[0].stack() if each else None
        return Learnt(td_error / number, q_value / number, weights, batches.serial, td_errors)

    def _compile(self, masked: bool, prioritised: bool) -> Callable[..., Learnt]:
        """`_run` by XLA for any number of batches, as one concrete function.

        Calling that skips the search for the right trace, which takes half of a call's time.
        """
        each = None, self.config.batch_size
        numbers = tf.TensorSpec(each, tf.float32)
        observations = tf.TensorSpec((*each, self.observation_size), tf.float32)
        masks = tf.TensorSpec((*each, len(self.actions)), tf.bool) if masked else None
        actions = tf.TensorSpec(each, tf.int32)
        drawn = (numbers, tf.TensorSpec(each, tf.int64)) if prioritised else ()
        kinds = Batch(observations, actions, numbers, observations, numbers, numbers, masks, *drawn)
        whole, number = tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.float32)
        function = tf.function(self._run, autograph=False, jit_compile=True)
        return function.get_concrete_function(kinds, whole, whole, number)


class UpdateThread:
    """Runs calls of updates one after the other on a thread of its own, beside whoever acts.

    `start` of the third call returns what the second has learnt, however long ago that was ready.
    So which weights act when depends on the number of calls and never on the clock. (Actors beside
    a learner: Horgan et al., arXiv:1803.00933).
    """

    def __init__(self, updates: Updates, sync_every: int) -> None:
        self.updates, self.sync_every = updates, sync_every
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[Learnt] | None = None

    def __enter__(self) -> UpdateThread:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()  # waits for what is running

    def start(self, batches: Batch, before: int, learning_rate: float) -> Learnt | None:
        """Queue `Updates.run`, then wait for the call before, if any, and return its result."""
        earlier, told = self._running, (batches, before, learning_rate, self.sync_every)
        self._running = self._thread.submit(self.updates.run, *told)
        return earlier.result() if earlier is not None else None

    def finish(self) -> Learnt | None:
        """The result of the last call, when it is there; None if there was none."""
        last, self._running = self._running, None
        return last.result() if last is not None else None
