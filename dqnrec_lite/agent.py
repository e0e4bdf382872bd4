"""DQN: the agent of Mnih et al. (Nature 518, 2015), with the usual improvements as switches.

One loop: act in all sessions side by side, remember, and run the updates that are owed, many in one
compiled call. Nothing in it knows about shops.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf
from gymnasium.vector import VectorEnv
from tqdm.auto import tqdm

from dqnrec_lite.networks import build_q_network
from dqnrec_lite.replay import Batch, NStepWindow, ReplayBuffer
from dqnrec_lite.sessions import Sessions, check_observations, check_spaces
from dqnrec_lite.targets import double_dqn_value, dqn_value, td_target

UPDATES_PER_CALL = 32  # gradient steps in one compiled call
CURVE_POINTS = 50  # rows of a learning curve

# Allowed range of each number in a DQNConfig: kind, smallest, largest (both allowed).
_TINY, _HUGE = 1e-12, 2**53
_RANGES: dict[str, tuple[type, float, float]] = {
    "seed": (Integral, 0, _HUGE),
    "discount": (Real, 0.0, 1.0),
    "learning_rate": (Real, _TINY, 1.0),
    "batch_size": (Integral, 1, _HUGE),
    "buffer_size": (Integral, 1, _HUGE),
    "learning_starts": (Integral, 1, _HUGE),
    "updates_per_transition": (Real, 0.0, 1000.0),
    "target_sync_every": (Integral, 1, _HUGE),
    "target_tau": (Real, _TINY, 1.0),
    "epsilon_start": (Real, 0.0, 1.0),
    "epsilon_end": (Real, 0.0, 1.0),
    "epsilon_fraction": (Real, 0.0, 1.0),
    "n_step": (Integral, 1, 1000),
}


@dataclass(frozen=True)
class DQNConfig:
    """Settings of a DQN. Impossible ones are refused when it is made.

    Attributes:
        seed: of the initial weights, exploration, sampling and the environment.
        discount: gamma in [0, 1]; 0 makes the agent myopic.
        learning_rate: Adam's step size.
        hidden_sizes: units of each hidden layer.
        batch_size: transitions in one gradient step.
        buffer_size: transitions the replay buffer holds.
        learning_starts: transitions stored before the first gradient step.
        updates_per_transition: gradient steps per stored transition, e.g. 1.0 or 0.1.
        target_sync_every: gradient steps between two hard copies into the target network.
        target_tau: None for hard copies; else the target moves by this share each gradient step.
        epsilon_start, epsilon_end: exploration at the start, and from `epsilon_fraction` on.
        epsilon_fraction: share of a training call over which epsilon falls linearly.
        loss: "huber" (delta 1) or "mse", on the chosen action's value.
        double: Double DQN's target (arXiv:1509.06461).
        dueling: dueling network (arXiv:1511.06581).
        n_step: rewards summed before bootstrapping (Sutton & Barto, section 7.1).

    Raises:
        ValueError: names the field, its value and what is allowed.
    """

    seed: int = 0
    discount: float = 0.97
    learning_rate: float = 5e-4
    hidden_sizes: tuple[int, ...] = (128, 128)
    batch_size: int = 128
    buffer_size: int = 100_000
    learning_starts: int = 1_000
    updates_per_transition: float = 0.25
    target_sync_every: int = 500
    target_tau: float | None = None
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_fraction: float = 0.5
    loss: str = "huber"
    double: bool = True
    dueling: bool = False
    n_step: int = 1

    def __post_init__(self) -> None:
        for name, (kind, low, high) in _RANGES.items():
            value = getattr(self, name)
            if name == "target_tau" and value is None:
                continue
            right_kind = isinstance(value, kind) and not isinstance(value, bool)
            if not right_kind or not low <= value <= high:
                noun = "a whole number" if kind is Integral else "a number"
                raise ValueError(f"DQNConfig.{name}={value!r}: {noun} in [{low}, {high}] expected")
            object.__setattr__(self, name, int(value) if kind is Integral else float(value))
        sizes = self.hidden_sizes
        if not isinstance(sizes, (tuple, list)) or not all(
            isinstance(size, Integral) and not isinstance(size, bool) and size > 0 for size in sizes
        ):
            raise ValueError(f"DQNConfig.hidden_sizes={sizes!r}: positive whole numbers expected")
        object.__setattr__(self, "hidden_sizes", tuple(int(size) for size in sizes))
        if self.loss not in ("huber", "mse"):
            raise ValueError(f'DQNConfig.loss={self.loss!r}: "huber" or "mse" expected')
        for name in ("double", "dueling"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"DQNConfig.{name}={getattr(self, name)!r}: True or False expected")
        for name in ("batch_size", "learning_starts"):
            if getattr(self, name) > self.buffer_size:
                raise ValueError(
                    f"DQNConfig.{name}={getattr(self, name)}: at most buffer_size="
                    f"{self.buffer_size} expected"
                )


class LearningCurve(NamedTuple):
    """What happened in training, in up to 50 rows; arrays of one length.

    NaN stands where nothing was measured: no session ended, or no update was made in that stretch.
    """

    transitions: np.ndarray  # transitions seen by the agent so far
    mean_return: np.ndarray  # undiscounted, of the sessions that ended in the stretch; exploring
    mean_length: np.ndarray  # steps, of the same sessions
    td_error: np.ndarray  # mean |target - q(s, a)| over the stretch's updates
    q_value: np.ndarray  # mean q(s, a) over the same
    epsilon: np.ndarray  # at the end of the stretch
    buffer_size: np.ndarray  # transitions in the replay buffer


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy's global generator and Keras/TensorFlow, and make ops deterministic.

    A `DQN` carries generators of its own and does not need it; a notebook that also uses the
    global ones does. Environments are seeded by `reset(seed=...)`, which `learn` and `evaluate` do.
    """
    random.seed(seed)
    keras.utils.set_random_seed(seed)  # NumPy and TensorFlow too
    tf.config.experimental.enable_op_determinism()


class DQN:
    """Deep Q-network agent for Box observations of rank 1 and Discrete actions.

    Args:
        observation_space: of one session, `Box` of shape (observation_size,).
        action_space: of one session, `Discrete`.
        config: the settings.

    Raises:
        ValueError: the spaces are of another kind.
    """

    def __init__(
        self,
        observation_space: gym.spaces.Space,
        action_space: gym.spaces.Space,
        config: DQNConfig | None = None,
    ) -> None:
        check_spaces(observation_space, action_space)
        tf.config.experimental.enable_op_determinism()
        self.observation_space, self.action_space = observation_space, action_space
        self.config = config if config is not None else DQNConfig()
        size, self.num_actions = observation_space.shape[0], int(action_space.n)
        shape = (size, self.num_actions, self.config.hidden_sizes, self.config.dueling)
        self.q_network = build_q_network(*shape, seed=self.config.seed)
        self.target_network = build_q_network(*shape, seed=self.config.seed)
        self.target_network.set_weights(self.q_network.get_weights())
        self.optimizer = keras.optimizers.Adam(self.config.learning_rate)
        self.optimizer.build(self.q_network.trainable_variables)
        self.replay = ReplayBuffer(self.config.buffer_size, size)
        self.transitions = 0  # seen so far, over all training calls
        self.updates = 0  # gradient steps so far
        self._owed = 0.0  # gradient steps that stored transitions have earned
        self._rng = np.random.default_rng(self.config.seed)
        self._q_function = tf.function(
            self.q_network, input_signature=[tf.TensorSpec((None, size), tf.float32)]
        )
        self._compiled_updates = tf.function(self._run_updates, jit_compile=True)

    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """Action values, (batch, observation_size) -> (batch, actions) float32.

        Raises:
            ValueError: wrong shape, not numbers, or NaN or infinite ones.
        """
        observations = check_observations(observations, self.observation_space.shape[0])
        return self._q_function(observations).numpy()

    def predict(self, observations: np.ndarray) -> np.ndarray:
        """Greedy actions, (batch, observation_size) -> (batch,) int64. Raises as `q_values`."""
        return self.q_values(observations).argmax(axis=1)

    def learn(
        self, envs: gym.Env | VectorEnv, total_steps: int, progress: bool = True
    ) -> LearningCurve:
        """Train for `total_steps` more transitions, counted over all sessions.

        The sessions are started anew with a seed made from the config's and the transitions seen so
        far; whatever seed `envs` was made with is replaced. So a saved and reloaded agent goes on
        as the original would, bit for bit.

        Args:
            envs: single or vector environment, any autoreset mode, spaces as the agent's.
            total_steps: transitions; the last step of all sessions may go a few beyond.
            progress: show a progress bar (`TQDM_DISABLE=1` hides it everywhere).

        Returns:
            The learning curve of this call.

        Raises:
            ValueError: spaces differ from the agent's, total_steps is no whole number above 0, or
                the environment returns NaN or infinity.
        """
        if not isinstance(total_steps, Integral) or total_steps < 1:
            raise ValueError(f"total_steps={total_steps!r}: a whole number above 0 expected")
        config, sessions = self.config, Sessions(envs)
        for name in ("observation_space", "action_space"):
            theirs, ours = getattr(sessions.env, f"single_{name}"), getattr(self, name)
            if (theirs.shape, getattr(theirs, "n", 0)) != (ours.shape, getattr(ours, "n", 0)):
                raise ValueError(f"envs: {name} {theirs} differs from the agent's, {ours}")
        seeds = np.random.SeedSequence([config.seed, self.transitions])
        sessions.reset(seed=int(seeds.generate_state(1)[0] >> 1))
        window = NStepWindow(config.n_step, config.discount)
        curve = _CurveWriter(total_steps, sessions.num_envs)
        done = 0
        with tqdm(total=total_steps, unit="step", disable=None if progress else True) as bar:
            while done < total_steps:
                epsilon = self._epsilon(done / total_steps)
                observation = sessions.observations
                action = self._explore(observation, epsilon)
                step = sessions.step(action)
                self.replay.add(window.push(observation, action, step))
                new = int(step.valid.sum())
                done, self.transitions = done + new, self.transitions + new
                curve.session_step(step)
                if self.transitions >= config.learning_starts:
                    self._owed += new * config.updates_per_transition
                while self._owed >= UPDATES_PER_CALL:
                    curve.updates(*self._update(UPDATES_PER_CALL))
                bar.update(min(new, total_steps - bar.n))
                if curve.due(done):
                    curve.row(self.transitions, epsilon, len(self.replay))
                    bar.set_postfix_str(f"return {curve.rows[-1][1]:.3g}, epsilon {epsilon:.2f}")
        return curve.finish()

    def _epsilon(self, progress: float) -> float:
        config = self.config
        share = min(1.0, progress / config.epsilon_fraction) if config.epsilon_fraction else 1.0
        return config.epsilon_start + share * (config.epsilon_end - config.epsilon_start)

    def _explore(self, observations: np.ndarray, epsilon: float) -> np.ndarray:
        """Epsilon-greedy actions, (n,) int64."""
        anything = self._rng.integers(0, self.num_actions, len(observations))
        explores = self._rng.random(len(observations)) < epsilon
        if explores.all():
            return anything
        return np.where(explores, anything, self.predict(observations))

    def _update(self, count: int) -> tuple[float, float]:
        """`count` gradient steps in one compiled call; mean |TD error| and mean q(s, a)."""
        batch = self.replay.sample((count, self.config.batch_size), self._rng)
        td_error, q_value = self._compiled_updates(
            Batch(*map(tf.constant, batch)), tf.constant(self.updates, tf.int64)
        )
        self.updates += count
        self._owed -= count
        if not np.isfinite(td_error.numpy()):
            raise ValueError(
                f"training diverged: the TD error is {td_error.numpy()} after {self.updates} "
                f"updates; try a learning_rate below {self.config.learning_rate}"
            )
        return float(td_error), float(q_value)

    def _run_updates(self, batches: Batch, updates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One gradient step for each leading row of `batches`; compiled by XLA."""
        count = batches.action.shape[0]
        td_error, q_value = tf.constant(0.0), tf.constant(0.0)
        for i in tf.range(count):
            error, value = self._one_update(Batch(*(array[i] for array in batches)))
            self._sync(updates + tf.cast(i, tf.int64) + 1)
            td_error, q_value = td_error + error, q_value + value
        return td_error / count, q_value / count

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

    def _variables(self) -> list[Any]:
        parts = (self.q_network, self.target_network, self.optimizer)
        return [variable for part in parts for variable in part.variables]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write everything that training needs to go on to `directory`/agent.npz, without pickle.

        The file is written under another name, flushed to disk and then renamed: a process killed
        in between leaves the previous file whole.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        box = self.observation_space
        state = {
            "format": 1,
            "config": asdict(self.config),
            "num_actions": self.num_actions,
            "replay": [self.replay.position, self.replay.size],
            "counters": [self.transitions, self.updates, self._owed],
            "rng": self._rng.bit_generator.state,
        }
        arrays = {f"variable_{i}": np.array(v) for i, v in enumerate(self._variables())}
        for name, kept in zip(Batch._fields, self.replay.data, strict=True):
            arrays[f"replay_{name}"] = kept[: self.replay.size]
        temporary = folder / "agent.npz.tmp"
        with open(temporary, "wb") as file:
            np.savez(file, state=np.array(json.dumps(state)), low=box.low, high=box.high, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / "agent.npz")

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> DQN:
        """The agent that `save` wrote.

        Raises:
            FileNotFoundError: there is no agent in `directory`.
            ValueError: the file is damaged, or was not written by `save`.
        """
        path = Path(directory) / "agent.npz"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no saved agent; DQN.save makes one")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            state = json.loads(str(arrays["state"]))
            box = gym.spaces.Box(arrays["low"], arrays["high"], dtype=arrays["low"].dtype)
            agent = cls(box, gym.spaces.Discrete(state["num_actions"]), DQNConfig(**state["config"]))
            for i, variable in enumerate(agent._variables()):
                variable.assign(arrays[f"variable_{i}"])
            agent.replay.position, agent.replay.size = state["replay"]
            for name, kept in zip(Batch._fields, agent.replay.data, strict=True):
                kept[: agent.replay.size] = arrays[f"replay_{name}"]
            agent.transitions, agent.updates, agent._owed = state["counters"]
            agent._rng.bit_generator.state = state["rng"]
        except Exception as error:
            raise ValueError(f"{path}: damaged, or not a saved agent ({error})") from error
        return agent


class _CurveWriter:
    """Collects the rows of a `LearningCurve` while training runs."""

    def __init__(self, total_steps: int, num_envs: int) -> None:
        self.every, self.next_at = max(1, total_steps // CURVE_POINTS), 0
        self.next_at = self.every
        self.returns, self.lengths = np.zeros(num_envs), np.zeros(num_envs)
        self.rows: list[tuple[float, ...]] = []
        self._clear()

    def _clear(self) -> None:
        self.ended: list[tuple[float, float]] = []
        self.learned: list[tuple[float, float]] = []

    def session_step(self, step: Any) -> None:
        self.returns += np.where(step.valid, step.reward, 0.0)
        self.lengths += step.valid
        over = step.valid & (step.terminated | step.truncated)
        if over.any():
            self.ended += zip(self.returns[over], self.lengths[over], strict=True)
            self.returns[over] = self.lengths[over] = 0.0

    def updates(self, td_error: float, q_value: float) -> None:
        self.learned.append((td_error, q_value))

    def due(self, done: int) -> bool:
        return done >= self.next_at

    def row(self, transitions: int, epsilon: float, stored: int) -> None:
        def mean(pairs: list[tuple[float, float]]) -> tuple[float, ...]:
            return tuple(np.mean(pairs, axis=0)) if pairs else (np.nan, np.nan)

        self.rows.append((transitions, *mean(self.ended), *mean(self.learned), epsilon, stored))
        self.next_at += self.every
        self._clear()

    def finish(self) -> LearningCurve:
        return LearningCurve(*np.array(self.rows).T)
