"""DQN: the agent of Mnih et al. (Nature 518, 2015), with the usual improvements as switches.

Nothing in it knows about shops.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from dqnrec_lite import checkpoint
from dqnrec_lite._checks import (
    check_array,
    check_kind,
    check_mask,
    check_spaces,
    check_whole,
)
from dqnrec_lite.config import DQNConfig
from dqnrec_lite.curve import CurveWriter, LearningCurve, TrainingCall, warn_of_useless
from dqnrec_lite.networks import build_q_network, sync
from dqnrec_lite.nstep import NStepWindow
from dqnrec_lite.prioritised import BETA, PrioritisedReplay
from dqnrec_lite.replay import Batch, ReplayBuffer, blank_transition
from dqnrec_lite.sessions import Mask, Sessions
from dqnrec_lite.updates import UPDATES_PER_CALL, Learnt, Updates, UpdateThread

FORMAT = 4  # of what `DQN.save` writes


class DQN:
    """Deep Q-network agent for flat Box observations and Discrete actions.

    Args:
        observation_space: of one session, `Box` of shape (observation_size,).
        action_space: of one session, `Discrete`.
        config: the settings; None: `DQNConfig()`.
        network: called without arguments, gives a new Keras model (batch, observation_size) ->
            (batch, actions) each time; None: `build_q_network` with the config's sizes.

    Attributes:
        q_network: the online network, which learns.
        target_network: values the next states in the targets.
        actor: chooses the actions. Inside `learn` it has the weights from before the call of
            updates that may be running; after `learn`, `update` and `set_weights` the online ones.
        replay: what it remembers.
        updater: makes the gradient steps.
        transitions: seen, over all training calls.
        updates: gradient steps begun, over all training calls.
        owed: gradient steps that stored transitions have earned, and that are not begun yet.
        rng: draws what is explored and what is sampled.
        own_network: was it made with `network`?
        unfinished: the training call that a loaded checkpoint holds; None: none.

    Raises:
        TypeError: config is no `DQNConfig`, or network cannot be called.
        ValueError: the spaces are of another kind, or the network has another shape.
    """

    def __init__(
        self,
        observation_space: gym.spaces.Space,
        action_space: gym.spaces.Space,
        config: DQNConfig | None = None,
        network: Callable[[], keras.Model] | None = None,
    ) -> None:
        self.config = config = config if config is not None else DQNConfig()
        check_kind("config", config, DQNConfig)
        spaces = observation_space, action_space
        self.observation_size, self.actions = check_spaces(*spaces, "env", "envs")
        self.observation_space, self.action_space = observation_space, action_space
        self.own_network = network is not None
        shape = self.observation_size, len(self.actions)
        if network is None:
            sizes, kind = config.hidden_sizes, config.dueling
            network = partial(build_q_network, *shape, sizes, kind, config.seed)
        self.q_network, self.target_network, self.actor = _three_networks(network, *shape)
        self.updater = Updates(
            self.q_network, self.target_network, self.observation_size, self.actions, config
        )
        memory = config.buffer_size, blank_transition(self.observation_size)
        if config.prioritised is None:
            self.replay = ReplayBuffer(*memory)
        else:
            self.replay = PrioritisedReplay(*memory, config.prioritised)
        self.transitions = self.updates = 0
        self.owed = 0.0
        self.rng = np.random.default_rng(config.seed)
        self.unfinished: TrainingCall | None = None
        self._learning = False  # does `learn` run?
        rows = tf.TensorSpec((None, self.observation_size), tf.float32)
        # A concrete function: calling it skips the search for the right trace.
        self._q_function = tf.function(self.actor, autograph=False).get_concrete_function(rows)

    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """Action values, (batch, observation_size) -> (batch, actions) float32.

        Raises:
            ValueError: wrong shape, not numbers, or NaN or infinite ones; or the action values of
                enormous ones are not finite.
        """
        observations = check_array("observations", observations, ("batch", self.observation_size))
        return check_array("q_values", self._q(observations))

    def predict(self, observations: np.ndarray, action_mask: Mask = None) -> np.ndarray:
        """Greedy actions, (batch, observation_size) -> (batch,) int64.

        Args:
            observations: (batch, observation_size) numbers.
            action_mask: (batch, actions) bool, what is allowed; None: all is.

        Raises:
            ValueError: as `q_values`; or the mask has another shape, or a row that allows nothing.
        """
        q = self.q_values(observations)
        if action_mask is not None:
            q = np.where(check_mask("action_mask", action_mask, q.shape), q, -np.inf)
        return q.argmax(axis=1) + self.actions.start

    def act(self, observations: np.ndarray, epsilon: float, action_mask: Mask = None) -> np.ndarray:
        """Epsilon-greedy actions, (n, observation_size) -> (n,) int64, among the allowed ones."""
        count = len(observations)
        if action_mask is None:
            action = self.rng.integers(0, len(self.actions), count)
        else:  # the best of random scores: each allowed one with the same chance
            scores = self.rng.random(action_mask.shape)
            action = np.where(action_mask, scores, -1.0).argmax(axis=1)
        greedy = self.rng.random(count) >= epsilon
        if greedy.any():
            mask = None if action_mask is None else action_mask[greedy]
            action[greedy] = self._q(observations[greedy], mask).argmax(axis=1)
        return action + self.actions.start

    def _q(self, observations: np.ndarray, mask: Mask = None) -> np.ndarray:
        """The actor's values, -inf where the mask forbids.

        Rows are filled up to a power of two: TensorFlow (its oneDNN) keeps memory for each number
        of rows that it meets, for good, and exploring asks for another number at each step.
        """
        rows = len(observations)
        padded = np.zeros((1 << (rows - 1).bit_length(), self.observation_size), np.float32)
        padded[:rows] = observations
        q = self._q_function(tf.constant(padded)).numpy()[:rows]
        return q if mask is None else np.where(mask, q, -np.inf)

    def learn(
        self,
        envs: gym.Env | gym.vector.VectorEnv,
        total_steps: int,
        progress: bool = True,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 100_000,
    ) -> LearningCurve:
        """Train for `total_steps` more transitions, counted over all sessions.

        The sessions are started anew with a seed made from the config's and the transitions seen so
        far; whatever seed `envs` was made with is replaced. So a saved and reloaded agent goes on
        as the original would, bit for bit.

        The agent acts while updates run on a thread. An environment may ask it for `q_values` and
        `predict`, which answer by the weights that act and wait for nobody. It must not call
        `learn`, `update`, `save` or `variables` (refused), nor read or write the networks.

        With `checkpoint_dir` the agent saves itself along the way, and the sessions are given up
        and started anew there too. A process killed in between is resumed by
        `DQN.load(checkpoint_dir).learn(...)` with the same arguments: it finishes the call, and
        ends with the bits of a run that was never killed, if `reset(seed=...)` determines all that
        the environment does. (A run without checkpoints has other bits: its sessions go on there.)
        Once the call has come to its end, the same line begins another.

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
            ValueError: spaces differ from the agent's, the replay buffer cannot hold what all
                sessions bring at once, total_steps or checkpoint_every is no whole number above 0,
                another call is unfinished, the environment returns NaN or infinity, or training
                diverges.
            RuntimeError: called while it runs already.
        """
        self._check_not_learning("learn")
        self._check_replay()
        sessions = self._checked_sessions(envs)
        call = TrainingCall(total_steps, checkpoint_every, sessions.num_envs)
        if self.unfinished is not None:
            self.unfinished.check_finished_by(call, saves=checkpoint_dir is not None)
            call = self.unfinished
        if checkpoint_dir is not None:  # better now than after hours of training
            os.makedirs(checkpoint_dir, exist_ok=True)
        curve = CurveWriter(self._q, call, self.config.discount, progress)
        before, share = self.updates, self.config.updates_per_transition
        every = self.config.sync_every(share * total_steps)
        self.unfinished = None  # from here on `call` is what runs
        self._learning = True
        try:
            with curve, UpdateThread(self.updater, every) as thread:
                while call.done < total_steps:
                    until = call.next_checkpoint if checkpoint_dir is not None else total_steps
                    self.learn_until(until, call, sessions, thread, curve)
                    if checkpoint_dir is not None:
                        self._save(checkpoint_dir, call if call.done < total_steps else None)
        finally:
            self._learning = False
            sync(self.actor, self.q_network)
        stored = ReplayBuffer.sample(self.replay, 1000, np.random.default_rng(0))  # uniformly
        told = self.updater.loss(stored), stored.reward, len(self.replay), self.updates - before
        warn_of_useless(self.config, *told)
        return curve.finish()

    def learn_until(
        self,
        until: int,
        call: TrainingCall,
        sessions: Sessions,
        thread: UpdateThread,
        curve: CurveWriter,
    ) -> None:
        """The algorithm: fresh sessions, until `until` transitions are done."""
        window = NStepWindow(self.config.n_step, self.config.discount)
        sessions.reset(seed=self._session_seed())
        curve.restart()
        sync(self.actor, self.q_network)  # in case its weights were set by hand
        while call.done < until:
            epsilon = self.epsilon(call.progress)
            observation, mask = sessions.observations, sessions.action_mask
            action = self.act(observation, epsilon, mask)
            step = sessions.step(action)
            self.replay.add(window.push(observation, action, step))
            new = int(step.valid.sum())
            call.done, self.transitions = call.done + new, self.transitions + new
            curve.watch(observation, mask, step)
            if len(self.replay) >= self.config.learning_starts:
                self.owed += new * self.config.updates_per_transition
            while self.owed >= UPDATES_PER_CALL:
                batches = self.sample(UPDATES_PER_CALL, call.progress)
                rate, before = self.learning_rate(call.progress), self.updates
                self.updates += UPDATES_PER_CALL  # made even if the wait breaks
                self.owed -= UPDATES_PER_CALL
                self._act_by(thread.start(batches, before, rate), curve)
            if curve.due and call.done < until:
                curve.row(self.transitions, epsilon, len(self.replay))
        self._act_by(thread.finish(), curve)
        self.updater.check_not_diverged(self.actor.get_weights(), self.updates)
        curve.row(self.transitions, epsilon, len(self.replay))
        pending = window.flush(sessions)  # given up: truncated, so these bootstrap
        if pending is not None:
            self.replay.add(pending)

    def update(self, count: int) -> float:
        """Learn from what is stored, without an environment: `count` gradient steps.

        The step size is `learning_rate` throughout. So one learns from a log:
        `agent.replay.add(batch)`, then `agent.update(10_000)`.

        Args:
            count: gradient steps.

        Returns:
            Mean absolute TD error over all of them.

        Raises:
            ValueError: nothing is stored, a stored action is none of the agent's, count is no whole
                number above 0, or training diverges.
            RuntimeError: called while `learn` runs.
        """
        check_whole("count", count)
        self._check_not_learning("update")
        self._check_replay()
        calls = range(0, count, UPDATES_PER_CALL)
        hidden = bool(os.environ.get("TQDM_DISABLE"))
        total, every = 0.0, self.config.sync_every(count)
        try:
            for done in tqdm(calls, unit="call", disable=hidden, leave=False):
                size = min(UPDATES_PER_CALL, count - done)
                batches, rate = self.sample(size, done / count), self.config.learning_rate
                self.updates += size
                learnt = self.updater.run(batches, self.updates - size, rate, every)
                self._learn_priorities(learnt)
                total += size * float(learnt.td_error)
        finally:
            sync(self.actor, self.q_network)
        self.updater.check_not_diverged(self.actor.get_weights(), self.updates)
        return total / count

    def sample(self, count: int, progress: float = 1.0) -> Batch:
        """Batches for `count` updates from the replay buffer: tensors (count, batch_size, ...)."""
        shape = count, self.config.batch_size
        if isinstance(self.replay, PrioritisedReplay):
            beta = BETA + min(1.0, progress) * (1.0 - BETA)
            return self.replay.sample(shape, self.rng, beta).apply(tf.constant)
        return self.replay.sample(shape, self.rng).apply(tf.constant)

    def epsilon(self, progress: float) -> float:
        """Exploration at `progress`, 0 to 1, of a training call."""
        config = self.config
        share = min(1.0, progress / config.epsilon_fraction) if config.epsilon_fraction else 1.0
        return config.epsilon_start + share * (config.epsilon_end - config.epsilon_start)

    def learning_rate(self, progress: float) -> float:
        """Step size at `progress`, 0 to 1, of a training call."""
        start, end = self.config.learning_rate, self.config.learning_rate_end
        return start if end is None else start + min(1.0, progress) * (end - start)

    def _act_by(self, learnt: Learnt | None, curve: CurveWriter) -> None:
        """Take over what a call of updates gave: its weights act from now on."""
        if learnt is not None:
            for weight, value in zip(self.actor.weights, learnt.weights, strict=True):
                weight.assign(value)
            self._learn_priorities(learnt)
            curve.updates(float(learnt.td_error), float(learnt.q_value))

    def _learn_priorities(self, learnt: Learnt) -> None:
        if isinstance(self.replay, PrioritisedReplay):
            self.replay.update_priorities(np.asarray(learnt.serial), learnt.td_errors)

    def _session_seed(self) -> int:
        """Made of the config's seed and the transitions so far: 31 bits, positive."""
        seeds = np.random.SeedSequence([self.config.seed, self.transitions])
        return int(seeds.generate_state(1)[0] >> 1)

    def _check_not_learning(self, what: str) -> None:
        if self._learning:
            raise RuntimeError(f"learn is running: an environment must not call {what}")

    def _check_replay(self) -> None:
        """A ValueError if somebody has stored actions or masks that are not the agent's."""
        data = self.replay.data
        stored, masks = np.unique(data.action[: len(self.replay)]), data.next_action_mask
        if unknown := sorted(set(stored.tolist()) - set(self.actions)):
            raise ValueError(f"replay: stored actions {unknown} are not in {self.actions}")
        if masks is not None and masks.shape[1] != len(self.actions):
            raise ValueError(f"replay: masks of {masks.shape[1]} actions, not {len(self.actions)}")

    def _checked_sessions(self, envs: gym.Env | gym.vector.VectorEnv) -> Sessions:
        """The environment as sessions; it must be of the agent's kind, and fit its buffer."""
        sessions = Sessions(envs)
        if (sessions.observation_size, sessions.actions) != (self.observation_size, self.actions):
            theirs = sessions.env.single_observation_space, sessions.env.single_action_space
            ours = self.observation_space, self.action_space
            raise ValueError(f"envs: spaces {theirs} differ from the agent's, {ours}")
        most = sessions.num_envs * self.config.n_step
        if most > self.replay.capacity:
            raise ValueError(
                f"envs: {sessions.num_envs} sessions bring up to {most} transitions at once, and "
                f"DQNConfig.buffer_size={self.replay.capacity}: fewer sessions or a larger buffer"
            )
        return sessions

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Give all networks these weights, as from `q_network.get_weights()`."""
        for network in (self.q_network, self.target_network, self.actor):
            network.set_weights(weights)

    def variables(self) -> list[Any]:
        """Variables of online and target network and the optimiser's, in a fixed order."""
        self._check_not_learning("variables or save")
        return self._variables()

    def _variables(self) -> list[Any]:
        parts = (self.q_network, self.target_network, self.updater.optimizer)
        return [variable for part in parts for variable in part.variables]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write everything that training needs to go on to `directory`/agent.npz.

        The save before it is kept; see `checkpoint.write`. A network of one's own is not written,
        only its weights.
        """
        self._check_not_learning("variables or save")
        self._save(directory, self.unfinished)

    def _save(self, directory: str | os.PathLike[str], unfinished: TrainingCall | None) -> None:
        box: Any = self.observation_space
        state = {
            "format": FORMAT,
            "config": asdict(self.config),
            "actions": [self.actions.start, self.actions.stop],
            "own_network": self.own_network,
            "added": self.replay.added,
            "counters": [self.transitions, self.updates, self.owed],
            "rng": self.rng.bit_generator.state,
            "unfinished": asdict(unfinished) if unfinished else None,
        }
        arrays = {"low": box.low, "high": box.high}
        arrays |= {f"variable_{i}": v.numpy() for i, v in enumerate(self._variables())}
        for name, kept in self.replay.data._asdict().items():
            if kept is not None:
                arrays[f"replay_{name}"] = kept[: self.replay.size]
        if isinstance(self.replay, PrioritisedReplay):
            arrays["priority"] = self.replay.tree[np.arange(len(self.replay))]
            arrays["largest_priority"] = np.array(self.replay.largest)
        checkpoint.write(directory, state, arrays)

    @classmethod
    def load(
        cls,
        directory: str | os.PathLike[str],
        previous: bool = False,
        network: Callable[[], keras.Model] | None = None,
    ) -> DQN:
        """The agent that `save` wrote last, or with `previous` the one it wrote before.

        Args:
            directory: where `save` wrote.
            previous: take the save before the last.
            network: what `DQN` was given, if it was given one.

        Raises:
            FileNotFoundError: there is no agent in `directory`.
            ValueError: the file is damaged, `save` did not write it, or network does not fit. The
                message tells whether there is a previous one. None is taken in silence for the
                other.
        """
        path = checkpoint.path_of(directory, previous)
        state, arrays = checkpoint.read(path)
        with checkpoint.blaming(path):
            if state["format"] != FORMAT:
                raise ValueError(f"format {state['format']}, this version reads {FORMAT}")
            config, own_network = DQNConfig(**state["config"]), bool(state["own_network"])
            box = gym.spaces.Box(arrays["low"], arrays["high"], dtype=arrays["low"].dtype)
            first, stop = state["actions"]
            actions = gym.spaces.Discrete(stop - first, start=first)
        if own_network != (network is not None):
            told = "pass network=build, as it was made with" if own_network else "pass no network="
            raise ValueError(f"{path}: for this agent {told}")
        agent = cls(box, actions, config, network)
        with checkpoint.blaming(path):
            agent._restore(state, arrays)
        return agent

    def _restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take over what `_save` wrote."""
        for i, variable in enumerate(self.variables()):
            variable.assign(arrays[f"variable_{i}"])
        sync(self.actor, self.q_network)
        self.replay.added = state["added"]
        if "replay_next_action_mask" in arrays:
            self.replay.keep_masks(len(self.actions))
        for name, kept in self.replay.data._asdict().items():
            if kept is not None:
                kept[: self.replay.size] = arrays[f"replay_{name}"]
        if isinstance(self.replay, PrioritisedReplay):
            self.replay.tree.set(np.arange(len(self.replay)), arrays["priority"])
            self.replay.largest = float(arrays["largest_priority"])
        self.transitions, self.updates, self.owed = state["counters"]
        self.rng.bit_generator.state = state["rng"]
        if state["unfinished"] is not None:
            self.unfinished = TrainingCall(**state["unfinished"])


def _three_networks(build: Callable[[], keras.Model], size: int, actions: int) -> list[keras.Model]:
    """Three networks of the right shape and the same weights."""
    if not callable(build) or isinstance(build, keras.Model):
        raise TypeError(f"network: a function expected, got {type(build).__name__}")
    networks = [build() for _ in range(3)]
    if len({id(network) for network in networks}) < 3:
        raise ValueError("network: a new model expected at each call, got the same one again")
    for network in networks:
        check_kind("network()", network, keras.Model)
        shape = tuple(network(np.zeros((2, size), np.float32)).shape)
        if shape != (2, actions):
            raise ValueError(f"network: (2, {size}) -> (2, {actions}) expected, got {shape}")
        network.set_weights(networks[0].get_weights())
    return networks
