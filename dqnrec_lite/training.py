"""The training loop, and what it takes to survive a kill: checkpoints that are exact.

Act in all sessions side by side, remember, and run the updates that are owed, many in one compiled
call. At a checkpoint the sessions start anew from a seed that the checkpoint implies, in the
interrupted run and in the uninterrupted one alike; so both end with the same bits.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import tensorflow as tf
from gymnasium.vector import VectorEnv

from dqnrec_lite.checkpoint import Unfinished
from dqnrec_lite.checks import check_path, check_whole
from dqnrec_lite.curve import CurveWriter, LearningCurve
from dqnrec_lite.progress import progress_bar
from dqnrec_lite.replay import NStepWindow
from dqnrec_lite.sessions import Sessions

if TYPE_CHECKING:
    from dqnrec_lite.agent import DQN

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
    with progress_bar(total=total_steps, initial=done, unit="step", show=progress) as bar:
        while done < total_steps:
            epsilon = agent._epsilon(done / total_steps)
            observation = sessions.observations
            action = agent._explore(observation, epsilon)
            step = sessions.step(action)
            agent.replay._add(window._push(observation, action, step))  # Sessions has checked them
            new = int(step.valid.sum())
            done, agent.transitions = done + new, agent.transitions + new
            curve.session_step(observation, step)
            if len(agent.replay) >= config.learning_starts:
                agent.owed += new * config.updates_per_transition
            while agent.owed >= UPDATES_PER_CALL:
                rate = agent._learning_rate(done / total_steps)
                curve.updates(*agent._update(UPDATES_PER_CALL, rate))
            bar.update(min(new, total_steps - bar.n))
            crossed = done // checkpoint_every > (done - new) // checkpoint_every
            saves_to = checkpoint_dir if crossed and done < total_steps else None
            if curve.due(done) or saves_to is not None:
                stored = len(agent.replay)
                row = curve.row(done, agent.transitions, epsilon, stored, agent.q_values)
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
