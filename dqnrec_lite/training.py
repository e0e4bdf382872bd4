"""The training loop, and what it takes to survive a kill: checkpoints that are exact.

Act in all sessions side by side, remember, and run the updates that are owed, many in one compiled
call. The call runs on a thread, on a second core if there is one, while the agent goes on acting by
the weights from before that call (actors beside a learner: Horgan et al., arXiv:1803.00933). Which
weights act, and what is learnt from, depends on the steps alone and never on the clock.

At a checkpoint the sessions start anew from a seed that the checkpoint implies, in the interrupted
run and in the uninterrupted one alike; so both end with the same bits.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import tensorflow as tf
from gymnasium.vector import VectorEnv

from dqnrec_lite._checks import check_path, check_whole
from dqnrec_lite.checkpoint import Unfinished
from dqnrec_lite.curve import CurveWriter, LearningCurve
from dqnrec_lite.progress import progress_bar
from dqnrec_lite.replay import Batch, NStepWindow
from dqnrec_lite.sessions import Sessions

if TYPE_CHECKING:
    from dqnrec_lite.agent import DQN, Learnt

UPDATES_PER_CALL = 32  # gradient steps in one compiled call


def train(
    agent: DQN,
    envs: gym.Env | VectorEnv,
    total_steps: int,
    progress: bool,
    checkpoint_dir: str | os.PathLike[str] | None,
    checkpoint_every: int,
) -> LearningCurve:
    """`DQN.learn`, which describes it."""
    sessions = _checked_sessions(agent, envs)
    call = _begin(agent, total_steps, checkpoint_every, sessions.num_envs, checkpoint_dir)
    config, done = agent.config, call.done
    window = NStepWindow(config.n_step, config.discount)
    curve = CurveWriter(total_steps, sessions.num_envs, config.discount, call.curve, done)
    _start_sessions(agent, sessions)
    bar = progress_bar(total=total_steps, initial=done, unit="step", show=progress)
    with bar, Learner(agent, curve) as learner:
        while done < total_steps:
            epsilon = agent._epsilon(done / total_steps)
            observation = sessions.observations
            action = agent._explore(observation, epsilon, learner.weights)
            step = sessions.step(action)
            agent.replay._add(window._push(observation, action, step))  # Sessions has checked them
            new = int(step.valid.sum())
            done, agent.transitions = done + new, agent.transitions + new
            curve.session_step(observation, step)
            if len(agent.replay) >= config.learning_starts:
                agent.owed += new * config.updates_per_transition
            while agent.owed >= UPDATES_PER_CALL:
                agent.owed -= UPDATES_PER_CALL
                rate = agent._learning_rate(done / total_steps)
                learner.start(agent._draw(UPDATES_PER_CALL), rate)
            bar.update(min(new, total_steps - bar.n))
            crossed = done // checkpoint_every > (done - new) // checkpoint_every
            saves_to = checkpoint_dir if crossed and done < total_steps else None
            if saves_to is not None or done >= total_steps:
                learner.finish()
            if curve.due(done) or saves_to is not None:
                stored = len(agent.replay)
                row = curve.row(done, agent.transitions, epsilon, stored, learner.q_values)
                _write_summary(row)
                bar.set_postfix_str(f"return {row['mean_return']:.3g}, epsilon {epsilon:.2f}")
            if saves_to is not None:
                _store_open_transitions(agent, window, sessions)
                call.done, call.curve = done, curve.rows
                agent.unfinished = call
                agent.save(saves_to)
                agent.unfinished = None
                _start_sessions(agent, sessions)
                curve.restart()
    _store_open_transitions(agent, window, sessions)
    if checkpoint_dir is not None:
        agent.save(checkpoint_dir)
    return curve.finish()


class Learner:
    """Runs calls of updates one after the other, on a thread of their own.

    Args:
        agent: the one that learns.
        curve: is told what each call measured.

    Raises:
        RuntimeError: the agent is learning already, so that an environment called `learn`.
    """

    def __init__(self, agent: DQN, curve: CurveWriter) -> None:
        if agent._learning:
            raise RuntimeError("learn is running already; an environment must not call it")
        self.agent, self.curve = agent, curve
        agent._learning = True
        self.weights = agent._weights()  # to act by
        self.thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Learner:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.thread.shutdown()  # waits for what is running
        finally:
            self.agent._running, self.agent._learning = None, False

    def start(self, batches: Batch, learning_rate: float) -> None:
        """Queue a call of updates, then wait for the one before and take over its weights."""
        before = self.agent._running
        self.agent._running = self.thread.submit(self.agent._update, batches, learning_rate)
        self._take(before)

    def finish(self) -> None:
        """Wait for the last call, and act by its weights."""
        before, self.agent._running = self.agent._running, None
        self._take(before)
        if not all(np.isfinite(weight.numpy()).all() for weight in self.weights):
            raise ValueError(
                f"training diverged: weights are not finite after {self.agent.updates} updates; "
                f"try a learning_rate below {self.agent.config.learning_rate}"
            )

    def _take(self, call: Future[Learnt] | None) -> None:
        if call is not None:
            learnt = call.result()
            self.weights = learnt.weights
            self.curve.updates(float(learnt.td_error), float(learnt.q_value))

    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """Action values by the weights that act, (n, observation_size) -> (n, actions)."""
        return self.agent._q_values(self.weights, observations)


def _checked_sessions(agent: DQN, envs: gym.Env | VectorEnv) -> Sessions:
    sessions = Sessions(envs)
    for name in ("observation_space", "action_space"):
        theirs, ours = getattr(sessions.env, f"single_{name}"), getattr(agent, name)
        if (theirs.shape, getattr(theirs, "n", 0)) != (ours.shape, getattr(ours, "n", 0)):
            raise ValueError(f"envs: {name} {theirs} differs from the agent's, {ours}")
    return sessions


def _begin(
    agent: DQN, total_steps: int, checkpoint_every: int, num_envs: int, checkpoint_dir: Any
) -> Unfinished:
    """A new training call, or the unfinished one of a checkpoint."""
    total_steps = check_whole("total_steps", total_steps)
    checkpoint_every = check_whole("checkpoint_every", checkpoint_every)
    if checkpoint_dir is not None:  # better now than after hours of training
        check_path("checkpoint_dir", checkpoint_dir).mkdir(parents=True, exist_ok=True)
    call, old = Unfinished(total_steps, checkpoint_every, num_envs), agent.unfinished
    if old is None:
        return call
    same = (call.total_steps, call.checkpoint_every) == (old.total_steps, old.checkpoint_every)
    if not same or num_envs != old.num_envs or checkpoint_dir is None:
        raise ValueError(
            f"unfinished training: {old.done} of {old.total_steps} transitions are done. To finish "
            f"it, pass total_steps={old.total_steps}, checkpoint_every={old.checkpoint_every}, a "
            f"checkpoint_dir and {old.num_envs} sessions; to give it up, set agent.unfinished=None"
        )
    agent.unfinished = None
    return old


def _start_sessions(agent: DQN, sessions: Sessions) -> None:
    """Start all sessions anew, from a seed made of the config's and the transitions so far."""
    seeds = np.random.SeedSequence([agent.config.seed, agent.transitions])
    sessions.reset(seed=int(seeds.generate_state(1)[0] >> 1))


def _store_open_transitions(agent: DQN, window: NStepWindow, sessions: Sessions) -> None:
    """Sessions are given up here. That is truncation: what they have so far bootstraps."""
    for batch in window.flush(sessions.observations):
        agent.replay.add(batch)


def _write_summary(row: dict[str, float]) -> None:
    """One scalar a column for TensorBoard, if the caller has opened a writer."""
    if tf.summary.should_record_summaries():
        for name, value in row.items():
            if name != "transitions" and np.isfinite(value):
                tf.summary.scalar(name, value, step=int(row["transitions"]))
