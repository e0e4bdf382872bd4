"""DQN: the agent of Mnih et al. (Nature 518, 2015), with the usual improvements as switches.

The loop is in `training`; here are the networks, the choice of actions and the gradient step.
Nothing in it knows about shops.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf
from gymnasium.vector import VectorEnv

from dqnrec_lite._checks import (
    check_finite,
    check_kind,
    check_observations,
    check_spaces,
    check_whole,
)
from dqnrec_lite.checkpoint import Unfinished, load_agent, save_agent
from dqnrec_lite.config import DQNConfig
from dqnrec_lite.curve import LearningCurve
from dqnrec_lite.networks import build_q_network
from dqnrec_lite.replay import Batch, ReplayBuffer
from dqnrec_lite.targets import double_dqn_value, dqn_value, td_target
from dqnrec_lite.training import UPDATES_PER_CALL, train

__all__ = ["DQN", "UPDATES_PER_CALL", "seed_everything"]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy's global generator and Keras/TensorFlow, and make ops deterministic.

    A `DQN` carries generators of its own and does not need it; a notebook that also uses the
    global ones does. Environments are seeded by `reset(seed=...)`, which `learn` and `evaluate` do.

    Raises:
        ValueError: seed is no whole number that NumPy's global generator takes, 0 to 2^32 - 1.
    """
    seed = check_whole("seed", seed, 0, 2**32 - 1)
    random.seed(seed)
    keras.utils.set_random_seed(seed)  # NumPy and TensorFlow too
    tf.config.experimental.enable_op_determinism()


class Learnt(NamedTuple):
    """What one compiled call of updates hands back."""

    td_error: tf.Tensor  # mean |target - q(s, a)| over its updates
    q_value: tf.Tensor  # mean q(s, a) over the same
    weights: list[tf.Tensor]  # of the online network after the last of them


class DQN:
    """Deep Q-network agent for Box observations of rank 1 and Discrete actions.

    Args:
        observation_space: of one session, `Box` of shape (observation_size,).
        action_space: of one session, `Discrete`.
        config: the settings.

    Raises:
        TypeError: config is no `DQNConfig`.
        ValueError: the spaces are of another kind.
    """

    def __init__(
        self,
        observation_space: gym.spaces.Space,
        action_space: gym.spaces.Space,
        config: DQNConfig | None = None,
    ) -> None:
        check_kind("config", config, DQNConfig, type(None))
        size, self.num_actions = check_spaces(observation_space, action_space)
        tf.config.experimental.enable_op_determinism()
        self.observation_space, self.action_space = observation_space, action_space
        self.config = config if config is not None else DQNConfig()
        self.observation_size = size
        shape = (size, self.num_actions, self.config.hidden_sizes, self.config.dueling)
        self.q_network = build_q_network(*shape, seed=self.config.seed)
        self.target_network = build_q_network(*shape, seed=self.config.seed)
        self.target_network.set_weights(self.q_network.get_weights())
        self.optimizer = keras.optimizers.Adam(self.config.learning_rate)
        self.optimizer.build(self.q_network.trainable_variables)
        self.replay = ReplayBuffer(self.config.buffer_size, size)
        self.transitions = 0  # seen so far, over all training calls
        self.updates = 0  # gradient steps so far
        self.owed = 0.0  # gradient steps that stored transitions have earned
        self.rng = np.random.default_rng(self.config.seed)
        self.unfinished: Unfinished | None = None  # training call that a loaded checkpoint holds
        self._learning = False  # does `learn` run?
        self._running: Future[Learnt] | None = None  # its last call of updates
        # Concrete functions: calling them skips the search for the right trace, half the time. The
        # first has the network's own weights, the second takes them as they were.
        rows = tf.TensorSpec((None, size), tf.float32)
        weights = [tf.TensorSpec(weight.shape, tf.float32) for weight in self.q_network.variables]
        self._q_function = tf.function(self.q_network, autograph=False).get_concrete_function(rows)
        self._forward_function = tf.function(self._forward, autograph=False).get_concrete_function(
            weights, rows
        )

    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """Action values, (batch, observation_size) -> (batch, actions) float32.

        Raises:
            ValueError: wrong shape, not numbers, or NaN or infinite ones; or the action values of
                enormous ones are not finite.
        """
        observations = check_observations(observations, self.observation_size)
        self._wait()
        q = self._q_function(tf.constant(observations, tf.float32)).numpy()
        check_finite("q_values", q)
        return q

    def predict(self, observations: np.ndarray) -> np.ndarray:
        """Greedy actions, (batch, observation_size) -> (batch,) int64. Raises as `q_values`."""
        return self.q_values(observations).argmax(axis=1)

    def learn(
        self,
        envs: gym.Env | VectorEnv,
        total_steps: int,
        progress: bool = True,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 100_000,
    ) -> LearningCurve:
        """Train for `total_steps` more transitions, counted over all sessions.

        The sessions are started anew with a seed made from the config's and the transitions seen so
        far; whatever seed `envs` was made with is replaced. So a saved and reloaded agent goes on
        as the original would, bit for bit.

        The agent acts while updates run on a thread. An environment may ask it for `q_values`,
        `predict`, `variables` and `save`, which wait for them. It must not call `learn`, nor read
        or write the networks, the optimizer or `updates` directly.

        With `checkpoint_dir` that happens at each checkpoint too. A process killed in between is
        resumed by `DQN.load(checkpoint_dir).learn(...)` with the same arguments: it finishes the
        call, and ends with the bits of a run that was never killed. (They are not those of a run
        without checkpoints, whose sessions are not given up in between, and which acts by older
        weights at that moment.)

        Where the caller has set a default writer, each row of the learning curve goes to
        TensorBoard (needs the package `tensorboard`):
        `with tf.summary.create_file_writer("logs").as_default(): agent.learn(...)`.

        Args:
            envs: single or vector environment, any autoreset mode, spaces as the agent's.
            total_steps: transitions; the last step of all sessions may go a few beyond.
            progress: show a progress bar (`TQDM_DISABLE=1` hides it everywhere).
            checkpoint_dir: folder in which the agent saves itself, at the end too; None: nowhere.
            checkpoint_every: transitions of this call between two checkpoints.

        Returns:
            The learning curve of this call, all of it if it was resumed.

        Raises:
            ValueError: spaces differ from the agent's, total_steps or checkpoint_every is no whole
                number above 0, another call is unfinished, the environment returns NaN or infinity,
                or training diverges.
            RuntimeError: called while it runs already.
        """
        return train(self, envs, total_steps, progress, checkpoint_dir, checkpoint_every)

    def _epsilon(self, progress: float) -> float:
        config = self.config
        share = min(1.0, progress / config.epsilon_fraction) if config.epsilon_fraction else 1.0
        return config.epsilon_start + share * (config.epsilon_end - config.epsilon_start)

    def _learning_rate(self, progress: float) -> float:
        start, end = self.config.learning_rate, self.config.learning_rate_end
        return start if end is None else start + min(1.0, progress) * (end - start)

    def _forward(self, weights: list[tf.Tensor], observations: tf.Tensor) -> tf.Tensor:
        """The online network with the weights given, not with its own; compiled."""
        return self.q_network.stateless_call(weights, [], observations)[0]

    def _q_values(self, weights: list[tf.Tensor], observations: np.ndarray) -> np.ndarray:
        return self._forward_function(weights, tf.constant(observations, tf.float32)).numpy()

    def _weights(self) -> list[tf.Tensor]:
        """The online network's weights as they are now; later updates do not reach them."""
        return [variable.value.value() for variable in self.q_network.variables]

    def _explore(
        self, observations: np.ndarray, epsilon: float, weights: list[tf.Tensor]
    ) -> np.ndarray:
        """Epsilon-greedy actions by the weights given, (n,) int64."""
        action = self.rng.integers(0, self.num_actions, len(observations))
        greedy = self.rng.random(len(observations)) >= epsilon
        if greedy.any():
            action[greedy] = self._q_values(weights, observations[greedy]).argmax(axis=1)
        return action

    def _wait(self) -> None:
        """Until no update is running: for whoever asks while `learn` runs, as environments may.

        What stopped the updates, if anything did, is raised here.
        """
        if self._running is not None:
            self._running.result()

    def _draw(self, count: int) -> Batch:
        """Batches for `count` updates, each a tensor (count, batch_size, ...)."""
        batches = self.replay.sample((count, self.config.batch_size), self.rng)
        return Batch(*map(tf.constant, batches))

    @cached_property
    def _compiled_updates(self) -> Callable[..., Learnt]:
        """`_run_updates` for any number of batches; traced when first needed."""
        shape = None, self.config.batch_size
        kinds = {name: tf.TensorSpec(shape, tf.float32) for name in Batch._fields}
        kinds["action"] = tf.TensorSpec(shape, tf.int32)
        for name in ("observation", "next_observation"):
            kinds[name] = tf.TensorSpec((*shape, self.observation_size), tf.float32)
        function = tf.function(self._run_updates, autograph=False, jit_compile=True)
        return function.get_concrete_function(
            Batch(**kinds), tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.float32)
        )

    def _update(self, batches: Batch, learning_rate: float) -> Learnt:
        """One gradient step for each of the batches, in one compiled call."""
        learnt = self._compiled_updates(
            batches, tf.constant(self.updates, tf.int64), tf.constant(learning_rate, tf.float32)
        )
        self.updates += batches.action.shape[0]
        if not np.isfinite(learnt.td_error.numpy()):
            raise ValueError(
                f"training diverged: the TD error is {learnt.td_error.numpy()} after "
                f"{self.updates} updates; try a learning_rate below {self.config.learning_rate}"
            )
        return learnt

    def _run_updates(self, batches: Batch, updates: tf.Tensor, learning_rate: tf.Tensor) -> Learnt:
        """One gradient step for each leading row of `batches`; compiled by XLA."""
        self.optimizer.learning_rate = learning_rate
        count = tf.shape(batches.action)[0]

        def one(i: tf.Tensor, td_error: tf.Tensor, q_value: tf.Tensor) -> tuple[tf.Tensor, ...]:
            error, value = self._one_update(Batch(*(array[i] for array in batches)))
            self._sync(updates + tf.cast(i, tf.int64) + 1)
            return i + 1, td_error + error, q_value + value

        _, td_error, q_value = tf.while_loop(lambda i, *_: i < count, one, (0, 0.0, 0.0))
        weights = [tf.identity(variable.value) for variable in self.q_network.variables]
        number = tf.cast(count, tf.float32)
        return Learnt(td_error / number, q_value / number, weights)

    def _one_update(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Gradient step on one batch: loss on the chosen action, none through the target."""
        next_q = self.target_network(batch.next_observation)
        if self.config.double:
            next_value = double_dqn_value(self.q_network(batch.next_observation), next_q)
        else:
            next_value = dqn_value(next_q)
        discount = self.config.discount
        target = td_target(batch.reward, batch.terminated, next_value, discount, batch.steps)
        target = tf.stop_gradient(target)
        chosen = tf.one_hot(batch.action, self.num_actions)
        with tf.GradientTape() as tape:
            q = tf.reduce_sum(self.q_network(batch.observation) * chosen, axis=-1)
            error = target - q
            size = tf.abs(error)
            if self.config.loss == "huber":
                loss = tf.reduce_mean(tf.where(size <= 1.0, 0.5 * error**2, size - 0.5))
            else:
                loss = tf.reduce_mean(0.5 * error**2)
        variables = self.q_network.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return tf.reduce_mean(size), tf.reduce_mean(q)

    def _sync(self, update: tf.Tensor) -> None:
        """Move the target network after gradient step number `update`."""
        tau = self.config.target_tau
        if tau is None:
            share = tf.cast(update % self.config.target_sync_every == 0, tf.float32)
        else:
            share = tf.constant(tau, tf.float32)
        pairs = zip(self.target_network.variables, self.q_network.variables, strict=True)
        for target, online in pairs:
            target.assign(share * online + (1.0 - share) * target)

    def variables(self) -> list[Any]:
        """Weights of both networks and the optimiser's state, in a fixed order."""
        self._wait()
        parts = (self.q_network, self.target_network, self.optimizer)
        return [variable for part in parts for variable in part.variables]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write everything that training needs to go on; see `checkpoint.save_agent`."""
        save_agent(self, directory)

    @classmethod
    def load(cls, directory: str | os.PathLike[str], previous: bool = False) -> DQN:
        """The agent that `save` wrote last, or the one before; see `checkpoint.load_agent`."""
        return load_agent(cls, directory, previous)
