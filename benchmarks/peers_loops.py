"""DQN training loops to compare with, all on CartPole-v1 and all with the same settings.

Each contestant is a function `run(num_envs, transitions, seed) -> Clock`. The hand-written ones
share one loop, and differ in the three functions that a framework provides: choose actions, make
one gradient step, copy into the target network. They exist in two forms. CleanRL-style: the parts
that CleanRL's single files use, so one session (they refuse more), stepped by `SyncVectorEnv` with
episode statistics, and Stable-Baselines3's replay buffer. Lean: the fastest that a loop with one
gradient step a call becomes, with sessions side by side and a replay of a few lines.
A library is imported only by the contestant that uses it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import RecordEpisodeStatistics

TASK, SIZE, ACTIONS = "CartPole-v1", 4, 2
HIDDEN, BATCH, BUFFER = (120, 84), 128, 50_000
DISCOUNT, LEARNING_RATE, SYNC_EVERY = 0.99, 1e-3, 500
LEARNING_STARTS = 1_000  # transitions; epsilon falls over them, and stays at its end afterwards
EPSILON_END = 0.05
WARM_UP = 500  # transitions with updates before the clock starts: compilation is over by then


class Clock:
    """Times the training phase, and knows how long sessions last.

    Args:
        skip: transitions before the clock starts.
    """

    def __init__(self, skip: int) -> None:
        self.skip, self.done, self.ends = skip, 0, 0
        self.started = self.seconds = 0.0
        self.begun_at = 0  # transitions done when the clock started
        self.history: list[tuple[int, int]] = []

    def tick(self, transitions: int, ends: int) -> None:
        """After each step of all sessions: transitions made, sessions ended."""
        self.done, self.ends = self.done + transitions, self.ends + ends
        self.history.append((self.done, self.ends))
        if not self.begun_at and self.done >= self.skip:
            self.begun_at, self.started = self.done, time.perf_counter()

    def stop(self) -> Clock:
        self.seconds = time.perf_counter() - self.started
        return self

    @property
    def rate(self) -> float:
        """Transitions a second."""
        return (self.done - self.begun_at) / self.seconds

    @property
    def session_length(self) -> float:
        """Transitions to a session's end, over the last quarter of the run."""
        then = next(pair for pair in self.history if pair[0] >= 0.75 * self.done)
        return (self.done - then[0]) / max(1, self.ends - then[1])


class Minibatch(NamedTuple):
    observation: np.ndarray  # (n, 4) float32
    action: np.ndarray  # (n,) int64
    reward: np.ndarray  # (n,) float32
    next_observation: np.ndarray  # (n, 4) float32
    terminated: np.ndarray  # (n,) float32


class Replay:
    """A ring of transitions without checks."""

    def __init__(self) -> None:
        self.data = Minibatch(
            np.zeros((BUFFER, SIZE), np.float32),
            np.zeros(BUFFER, np.int64),
            np.zeros(BUFFER, np.float32),
            np.zeros((BUFFER, SIZE), np.float32),
            np.zeros(BUFFER, np.float32),
        )
        self.added = 0

    def add(self, rows: Minibatch) -> None:
        where = (self.added + np.arange(len(rows.action))) % BUFFER
        for kept, array in zip(self.data, rows, strict=True):
            kept[where] = array
        self.added += len(rows.action)

    def sample(self, rng: np.random.Generator) -> Minibatch:
        where = rng.integers(0, min(self.added, BUFFER), BATCH)
        return Minibatch(*(kept[where] for kept in self.data))


class LibraryReplay:
    """Stable-Baselines3's buffer, which CleanRL uses too."""

    def __init__(self) -> None:
        from stable_baselines3.common.buffers import ReplayBuffer

        spaces = gym.spaces.Box(-np.inf, np.inf, (SIZE,), np.float32), gym.spaces.Discrete(ACTIONS)
        self.buffer = ReplayBuffer(BUFFER, *spaces, "cpu", handle_timeout_termination=False)

    def add(self, rows: Minibatch) -> None:
        if len(rows.action):
            observation, action, reward, after, terminated = rows
            self.buffer.add(observation, after, action, reward, terminated, [{}])

    def sample(self, rng: np.random.Generator) -> Minibatch:
        found = self.buffer.sample(BATCH)
        return Minibatch(
            found.observations.numpy(),
            found.actions[:, 0].numpy(),
            found.rewards[:, 0].numpy(),
            found.next_observations.numpy(),
            found.dones[:, 0].numpy(),
        )


def cleanrl_sessions() -> gym.vector.VectorEnv:
    return gym.vector.SyncVectorEnv([lambda: RecordEpisodeStatistics(gym.make(TASK))])


def loop(
    act: Callable[[np.ndarray], np.ndarray],
    update: Callable[[Minibatch], object],
    sync: Callable[[], object],
    num_envs: int,
    transitions: int,
    seed: int,
    learning_starts: int = LEARNING_STARTS,
    warm_up: int = WARM_UP,
    cleanrl: bool = False,
) -> Clock:
    """The hand-written contestants' training: one gradient step for each transition.

    A session restarts by a step of its own, which is no transition: it is neither stored nor
    counted.

    Args:
        act: (n, 4) float32 observations -> (n,) greedy actions.
        update: one gradient step.
        sync: copies the weights into the target network.
        num_envs: sessions side by side.
        transitions: how many are timed.
        seed: of environment, exploration and sampling.
        learning_starts: transitions before the first gradient step.
        warm_up: transitions between that and the start of the clock.
        cleanrl: with the parts that CleanRL uses, num_envs = 1.
    """
    envs = cleanrl_sessions() if cleanrl else gym.make_vec(TASK, num_envs=num_envs)
    rng, replay = np.random.default_rng(seed), LibraryReplay() if cleanrl else Replay()
    clock = Clock(learning_starts + warm_up)
    observation, _ = envs.reset(seed=seed)
    restarting = np.zeros(num_envs, bool)
    updates = 0
    while clock.done < learning_starts + warm_up + transitions:
        epsilon = max(EPSILON_END, 1 - (1 - EPSILON_END) * clock.done / learning_starts)
        explores = rng.random(num_envs) < epsilon
        action = rng.integers(0, ACTIONS, num_envs)
        if not explores.all():
            action = np.where(explores, action, act(observation))
        after, reward, terminated, truncated, _ = envs.step(action)
        valid, ended = ~restarting, terminated | truncated
        rows = Minibatch(observation, action, reward, after, terminated)
        if not valid.all():
            rows = Minibatch(*(array[valid] for array in rows))
        replay.add(rows)
        observation, restarting = after, ended
        clock.tick(len(rows.action), int((ended & valid).sum()))
        if clock.done > learning_starts:
            for _ in range(len(rows.action)):
                update(replay.sample(rng))
                updates += 1
                if updates % SYNC_EVERY == 0:
                    sync()
    return clock.stop()


def keras_network(seed: int) -> Any:
    import keras

    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(units, activation="relu") for units in HIDDEN]
    return keras.Sequential([keras.Input((SIZE,)), *layers, keras.layers.Dense(ACTIONS)])


def naive_keras(num_envs: int, transitions: int, seed: int) -> Clock:
    """`model.predict` for each action, and `predict`, `predict`, `fit` for each gradient step."""
    import keras

    online, target = keras_network(seed), keras_network(seed)
    online.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss="mse")

    def act(observation: np.ndarray) -> np.ndarray:
        return online.predict(observation, verbose=0).argmax(axis=1)

    def update(batch: Minibatch) -> None:
        next_value = target.predict(batch.next_observation, verbose=0).max(axis=1)
        q = online.predict(batch.observation, verbose=0)
        goal = batch.reward + DISCOUNT * (1 - batch.terminated) * next_value
        q[np.arange(BATCH), batch.action] = goal
        online.fit(batch.observation, q, batch_size=BATCH, epochs=1, verbose=0)

    def sync() -> None:
        target.set_weights(online.get_weights())

    return loop(act, update, sync, num_envs, transitions, seed, learning_starts=BATCH, warm_up=4)


def careful_keras(num_envs: int, transitions: int, seed: int) -> Clock:
    """The network called directly, and one `tf.function` for the gradient step."""
    import keras
    import tensorflow as tf

    online, target = keras_network(seed), keras_network(seed)
    target.set_weights(online.get_weights())
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build(online.trainable_variables)

    def act(observation: np.ndarray) -> np.ndarray:
        return online(observation).numpy().argmax(axis=1)

    @tf.function
    def train_step(batch: Minibatch) -> None:
        next_value = tf.reduce_max(target(batch.next_observation), axis=1)
        goal = batch.reward + DISCOUNT * (1 - batch.terminated) * next_value
        with tf.GradientTape() as tape:
            q = tf.gather(online(batch.observation), batch.action, batch_dims=1)
            loss = tf.reduce_mean((goal - q) ** 2)
        variables = online.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    def update(batch: Minibatch) -> None:
        train_step(Minibatch(*map(tf.constant, batch)))

    def sync() -> None:
        target.set_weights(online.get_weights())

    return loop(act, update, sync, num_envs, transitions, seed)


def torch_loop(num_envs: int, transitions: int, seed: int, cleanrl: bool = False) -> Clock:
    """PyTorch, eager."""
    import torch
    from torch import nn

    torch.set_num_threads(1)  # faster than two for layers this small
    torch.manual_seed(seed)
    first, second = HIDDEN
    online = nn.Sequential(
        nn.Linear(SIZE, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(),
        nn.Linear(second, ACTIONS),
    )  # fmt: skip
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=LEARNING_RATE)

    def act(observation: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return online(torch.from_numpy(observation)).argmax(dim=1).numpy()

    def update(batch: Minibatch) -> None:
        observation, action, reward, after, terminated = map(torch.from_numpy, batch)
        with torch.no_grad():
            next_value = target(after).max(dim=1).values
            goal = reward + DISCOUNT * (1 - terminated) * next_value
        q = online(observation).gather(1, action[:, None])[:, 0]
        loss = nn.functional.mse_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def sync() -> None:
        target.load_state_dict(online.state_dict())

    return loop(act, update, sync, num_envs, transitions, seed, cleanrl=cleanrl)


def cleanrl_torch(num_envs: int, transitions: int, seed: int) -> Clock:
    return torch_loop(num_envs, transitions, seed, cleanrl=True)


def jax_loop(num_envs: int, transitions: int, seed: int, cleanrl: bool = False) -> Clock:
    """JAX and optax: one compiled function to act, one for the gradient step."""
    import jax
    import jax.numpy as jnp
    import optax

    sizes = (SIZE, *HIDDEN, ACTIONS)
    rng = np.random.default_rng(seed)
    parameters = [
        (rng.normal(size=(i, o)).astype(np.float32) * (2 / i) ** 0.5, np.zeros(o, np.float32))
        for i, o in pairwise(sizes)
    ]
    optimizer = optax.adam(LEARNING_RATE)
    online = jax.tree.map(jnp.asarray, parameters)
    target, state = online, optimizer.init(online)

    def network(parameters: Any, hidden: Any) -> Any:
        for kernel, bias in parameters[:-1]:
            hidden = jax.nn.relu(hidden @ kernel + bias)
        kernel, bias = parameters[-1]
        return hidden @ kernel + bias

    @jax.jit
    def greedy(online: Any, observation: Any) -> Any:
        return network(online, observation).argmax(axis=1)

    q_values = jax.jit(network)

    @jax.jit
    def train_step(online: Any, target: Any, state: Any, batch: Minibatch) -> Any:
        next_value = network(target, batch.next_observation).max(axis=1)
        goal = batch.reward + DISCOUNT * (1 - batch.terminated) * next_value

        def loss(online: Any) -> Any:
            q = jnp.take_along_axis(network(online, batch.observation), batch.action[:, None], 1)
            return ((goal - q[:, 0]) ** 2).mean()

        changes, state = optimizer.update(jax.grad(loss)(online), state)
        return optax.apply_updates(online, changes), state

    def act(observation: np.ndarray) -> np.ndarray:
        if cleanrl:  # the maximum is not part of the compiled function there
            return np.asarray(q_values(online, observation).argmax(axis=-1))
        return np.asarray(greedy(online, observation))

    def update(batch: Minibatch) -> None:
        nonlocal online, state
        online, state = train_step(online, target, state, batch)

    def sync() -> None:
        nonlocal target
        target = online

    return loop(act, update, sync, num_envs, transitions, seed, cleanrl=cleanrl)


def cleanrl_jax(num_envs: int, transitions: int, seed: int) -> Clock:
    return jax_loop(num_envs, transitions, seed, cleanrl=True)


def stable_baselines(num_envs: int, transitions: int, seed: int) -> Clock:
    """Stable-Baselines3: after each step of all sessions as many gradient steps as sessions."""
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    clock = Clock(LEARNING_STARTS + WARM_UP)

    class Ticking(BaseCallback):
        def _on_step(self) -> bool:
            clock.tick(num_envs, int(self.locals["dones"].sum()))
            return True

    total = LEARNING_STARTS + WARM_UP + transitions
    agent = DQN(
        "MlpPolicy",
        make_vec_env(TASK, n_envs=num_envs, seed=seed),
        learning_rate=LEARNING_RATE,
        buffer_size=BUFFER,
        learning_starts=LEARNING_STARTS,
        batch_size=BATCH,
        gamma=DISCOUNT,
        train_freq=1,
        gradient_steps=num_envs,
        target_update_interval=SYNC_EVERY,
        exploration_fraction=LEARNING_STARTS / total,
        exploration_final_eps=EPSILON_END,
        policy_kwargs={"net_arch": list(HIDDEN)},
        seed=seed,
        device="cpu",
    )
    agent.learn(total, callback=Ticking())
    return clock.stop()


def ours(num_envs: int, transitions: int, seed: int, double: bool = False) -> Clock:
    """`DQN.learn` of this book."""
    from dqnrec_lite import DQN, DQNConfig, seed_everything

    seed_everything(seed)
    envs = gym.make_vec(TASK, num_envs=num_envs)
    total = LEARNING_STARTS + WARM_UP + transitions
    config = DQNConfig(
        seed=seed,
        discount=DISCOUNT,
        learning_rate=LEARNING_RATE,
        learning_rate_end=None,
        hidden_sizes=HIDDEN,
        batch_size=BATCH,
        buffer_size=BUFFER,
        learning_starts=LEARNING_STARTS,
        updates_per_transition=1.0,
        target_sync_every=SYNC_EVERY,
        epsilon_end=EPSILON_END,
        epsilon_fraction=LEARNING_STARTS / total,
        double=double,
    )
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    clock = Clock(LEARNING_STARTS + WARM_UP)
    step, restarting = envs.step, np.zeros(num_envs, bool)

    def ticking_step(actions: np.ndarray) -> Any:
        nonlocal restarting
        found = step(actions)
        valid, restarting = ~restarting, found[2] | found[3]
        clock.tick(int(valid.sum()), int((restarting & valid).sum()))
        return found

    envs.step = ticking_step
    agent.learn(envs, total, progress=False)
    clock.stop()
    earned = clock.done - LEARNING_STARTS
    if abs(agent.updates - earned) > 0.02 * earned + 256:
        raise RuntimeError(f"{agent.updates} gradient steps for {earned} transitions")
    return clock


def ours_double(num_envs: int, transitions: int, seed: int) -> Clock:
    """The same as Double DQN: a third pass forward."""
    return ours(num_envs, transitions, seed, double=True)
