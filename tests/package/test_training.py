"""Checkpoints that survive a kill, the progress bar, TensorBoard, and the curve's promises."""

import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_agent import BOX, SMALL, TWO, assert_equal_agents, filled
from test_sessions import Counting

from dqnrec_lite import DQN, checkpoint, curve, make_shop
from dqnrec_lite.config import DQNConfig
from dqnrec_lite.curve import CurveWriter, LearningCurve, TrainingCall
from dqnrec_lite.plotting import plot_training, use_house_style
from dqnrec_lite.sessions import Step

CONFIG = {"hidden_sizes": (16,), "batch_size": 16, "buffer_size": 2000, "learning_starts": 100}
CALL = {"total_steps": 6000, "checkpoint_every": 500, "progress": False}
N_STEP = {"n_step": 3, "dueling": True, "target_tau": 0.01}


def new_agent(**changes) -> tuple[DQN, gym.vector.VectorEnv]:
    envs = make_shop(16)
    config = DQNConfig(**(CONFIG | {"seed": 5, "updates_per_transition": 0.2} | changes))
    return DQN(envs.single_observation_space, envs.single_action_space, config), envs


def assert_equal_curves(one: LearningCurve, two: LearningCurve) -> None:
    for name, ours, theirs in zip(one._fields, one, two, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


class Killed(BaseException):
    pass


def killed_at_save(agent: DQN, envs, folder, save: int) -> DQN:
    """Train until checkpoint number `save` is written, and then nothing more happens."""
    done, write = [], checkpoint.write

    def writes_and_dies(*what):
        write(*what)
        done.append(1)
        if len(done) == save:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "write", writes_and_dies)
        with pytest.raises(Killed):
            agent.learn(envs, checkpoint_dir=folder, **CALL)
    return DQN.load(folder)


# --- Resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "save"), [({}, 1), (N_STEP, 11), ({"prioritised": 0.6}, 3)], ids=str
)
def test_a_call_resumed_at_a_checkpoint_ends_as_if_it_had_never_stopped(tmp_path, changes, save):
    whole, envs = new_agent(**changes)
    curve = whole.learn(envs, checkpoint_dir=tmp_path / "whole", **CALL)
    assert whole.updates > 300
    assert_equal_agents(whole, DQN.load(tmp_path / "whole"))
    agent, envs = new_agent(**changes)
    agent = killed_at_save(agent, envs, tmp_path / "killed", save)
    assert 0 <= agent.unfinished.done - 500 * save < 16
    again = agent.learn(make_shop(16, seed=9), checkpoint_dir=tmp_path / "killed", **CALL)
    assert_equal_agents(whole, agent)
    assert_equal_curves(curve, again)
    assert agent.unfinished is None
    assert DQN.load(tmp_path / "killed").unfinished is None


def test_without_a_folder_nothing_is_saved_and_no_session_is_given_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (one, envs), (two, _) = new_agent(), new_agent()
    one.learn(envs, 1000, checkpoint_every=100)
    two.learn(envs, 1000)
    assert_equal_agents(one, two)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [{"total_steps": 5000}, {"checkpoint_every": 600}, {"checkpoint_dir": None}, {"lanes": 8}],
    ids=str,
)
def test_an_unfinished_call_is_named_when_another_is_asked_for(tmp_path, other):
    agent = killed_at_save(*new_agent(), tmp_path, 2)
    before = agent.transitions
    envs = make_shop(other.pop("lanes", 16))
    with pytest.raises(ValueError, match="unfinished training: 1008 of 6000") as caught:
        agent.learn(envs, **({"checkpoint_dir": tmp_path} | CALL | other))
    caught.match("total_steps=6000, checkpoint_every=500, a checkpoint_dir and 16 sessions")
    assert agent.transitions == before
    agent.unfinished = None
    agent.learn(make_shop(8), 100)
    assert agent.transitions == before + 104


@pytest.mark.parametrize("every", [0, -1, 1.5, None])
def test_a_number_of_transitions_between_checkpoints_that_is_none_is_refused(every):
    agent, envs = new_agent()
    with pytest.raises(ValueError, match="checkpoint_every="):
        agent.learn(envs, 100, checkpoint_every=every)


@pytest.mark.parametrize("n_step", [1, 4])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_at_a_checkpoint_open_transitions_bootstrap_and_none_reaches_across(tmp_path, mode, n_step):
    """`Counting` tells session and step in its observation: 6 steps, cut off or ended."""
    envs = SyncVectorEnv([Counting] * 8, autoreset_mode=mode)
    config = DQNConfig(**CONFIG | {"n_step": n_step, "updates_per_transition": 0.0})
    agent = DQN(Counting.observation_space, Counting.action_space, config)
    agent.learn(envs, 800, checkpoint_dir=tmp_path, checkpoint_every=50)
    assert len(agent.replay) == agent.transitions
    rows = slice(0, len(agent.replay))
    first, last = agent.replay.data.observation[rows], agent.replay.data.next_observation[rows]
    steps, terminated = agent.replay.data.steps[rows], agent.replay.data.terminated[rows]
    np.testing.assert_array_equal(first[:, 0], last[:, 0])  # the same session
    np.testing.assert_array_equal(last[:, 1] - first[:, 1], steps)
    given_up = (steps < n_step) & (last[:, 1] < 6) & (terminated == 0)
    assert given_up.any() == (n_step > 1)
    ended = agent.replay.data.action[rows][steps == 1] == 1
    np.testing.assert_array_equal(terminated[steps == 1], ended)


# --- SIGKILL --------------------------------------------------------------------------------------

LONG_CALL = {"total_steps": 40_000, "checkpoint_every": 2000, "progress": False}
TRAIN = f"""
import sys
sys.path[:0] = sys.argv[2:]
import numpy as np
from test_training import LONG_CALL, new_agent
from dqnrec_lite import DQN, make_shop
from pathlib import Path
folder = Path(sys.argv[1])
if (folder / "agent.npz").exists():
    agent, envs = DQN.load(folder), make_shop(16)
else:
    agent, envs = new_agent(**{N_STEP!r})
curve = agent.learn(envs, checkpoint_dir=folder, **LONG_CALL)
np.save(folder / "curve.npy", np.array(curve))
"""
SAVE = f"""
import sys
sys.path[:0] = sys.argv[2:]
from test_agent import filled
from test_training import new_agent
agent, _ = new_agent(**{N_STEP!r})
filled(agent)
for agent.transitions in range(1, 1_000_000):
    agent.save(sys.argv[1])
"""


def start(program: str, folder) -> subprocess.Popen:
    here = os.path.dirname(__file__)
    command = [sys.executable, "-c", program, str(folder), here]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def wait_for(path, process: subprocess.Popen) -> None:
    for _ in range(6000):
        if path.exists():
            return
        assert process.poll() is None, "the process ended by itself"
        time.sleep(0.01)
    raise AssertionError(f"{path} did not come")


def test_training_killed_with_sigkill_and_resumed_ends_with_the_same_bits(tmp_path):
    process = start(TRAIN, tmp_path / "killed")
    wait_for(tmp_path / "killed" / "agent.npz", process)
    time.sleep(random.uniform(0.0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = loads(tmp_path / "killed").unfinished.done
    assert 2000 <= done < 40_000, "it was killed in mid-training"
    process = start(TRAIN, tmp_path / "killed")
    whole, envs = new_agent(**N_STEP)
    curve = whole.learn(envs, checkpoint_dir=tmp_path / "whole", **LONG_CALL)
    assert process.wait() == 0
    assert_equal_agents(whole, DQN.load(tmp_path / "killed"))
    np.testing.assert_array_equal(np.array(curve), np.load(tmp_path / "killed" / "curve.npy"))


def test_killed_while_it_saves_a_good_checkpoint_is_left(tmp_path):
    """Stopped, the process has left on the disk what a kill at that moment would leave."""
    process, last = start(SAVE, tmp_path), 0
    wait_for(tmp_path / "agent.previous.npz", process)
    for _ in range(12):
        time.sleep(random.uniform(0.0, 0.05))
        process.send_signal(signal.SIGSTOP)
        found = loads(tmp_path).transitions
        assert found >= last
        process.send_signal(signal.SIGCONT)
        last = found
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert loads(tmp_path).transitions >= last > 2


def loads(folder) -> DQN:
    """The last agent, or, by the message's advice, the one before."""
    try:
        return DQN.load(folder)
    except FileNotFoundError:  # killed between the two renames; the message says what to do
        return DQN.load(folder, previous=True)


@pytest.mark.skipif(os.name != "posix", reason="a folder cannot be flushed there")
def test_a_save_outlives_a_power_cut(tmp_path, monkeypatch):
    """First the file goes to the disk, then it gets its name, then the name goes to the disk."""
    agent, done = filled(DQN(BOX, TWO, SMALL)), []
    agent.save(tmp_path)
    fsync, replace = os.fsync, os.replace

    def watched_fsync(number):
        done.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    def watched_replace(source, target):
        done.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    agent.save(tmp_path)
    assert done == ["file", "agent.previous.npz", "agent.npz", "folder"]


def test_the_save_before_is_kept_and_the_refusal_of_a_torn_one_says_how_to_load_it(tmp_path):
    agent = filled(DQN(BOX, TWO, SMALL))
    for agent.transitions in (1, 2, 3):
        agent.save(tmp_path)
    assert DQN.load(tmp_path).transitions == 3
    assert DQN.load(tmp_path, previous=True).transitions == 2
    path = tmp_path / "agent.npz"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"agent\.npz: damaged") as caught:
        DQN.load(tmp_path)
    advice = re.search(r"agent\.previous\.npz holds the save before it: (.*)", str(caught.value))
    assert eval(advice[1]).transitions == 2
    path.unlink()
    with pytest.raises(FileNotFoundError, match="previous=True"):
        DQN.load(tmp_path)
    (tmp_path / "agent.previous.npz").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"agent\.previous\.npz: damaged") as caught:
        DQN.load(tmp_path, previous=True)
    assert "holds the save" not in str(caught.value)


# --- What a reader watches ------------------------------------------------------------------------


def test_the_progress_bar_tells_steps_speed_recent_return_and_time_left(capfd, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE")
    monkeypatch.setenv("COLUMNS", "120")
    every_step = partial(curve.tqdm, mininterval=0, miniters=1)  # however fast it trains
    monkeypatch.setattr(curve, "tqdm", every_step)
    agent, envs = new_agent()
    agent.learn(envs, 3000)
    lines = capfd.readouterr().err.split("\r")
    pattern = r"\d+/3000 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+step/s, return -?[\d.]+, epsilon [\d.]+\]"
    assert any(re.search(pattern, line) for line in lines), lines[-3:]
    agent.learn(envs, 300, progress=False)
    assert capfd.readouterr().err == ""


def test_the_curve_goes_to_tensorboard_if_a_writer_is_open(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    agent, envs = new_agent()
    agent.learn(envs, 100)  # none is open: nothing happens
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        curve = agent.learn(envs, 1000)
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    assert set(events.Tags()["tensors"]) == set(LearningCurve._fields) - {"transitions"}
    for name in events.Tags()["tensors"]:
        column = getattr(curve, name)
        measured = np.isfinite(column)
        assert measured.sum() > 4
        read = [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(name)]
        expected = np.column_stack([curve.transitions, column])[measured]
        np.testing.assert_allclose(read, expected, rtol=1e-6)


def shown(observations, mask):
    """Stands in for the network: an observation shows the values of its actions."""
    return observations if mask is None else np.where(mask, observations, -np.inf)


def test_the_curves_promise_and_return_are_of_the_sessions_that_ended():
    """Three lanes by hand; one is between two sessions (`valid` False) in the second step."""
    call = TrainingCall(4, 100, 3)
    writer = CurveWriter(shown, call, 0.5, progress=False)
    no = np.zeros(3, bool)
    observations = np.arange(12.0).reshape(4, 3, 1)
    rewards = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]])
    ended = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]], bool)
    valid = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1]], bool)
    for i in range(4):
        ends = (ended[i], no) if i % 2 else (no, ended[i])  # cut off as well as ended
        writer.watch(observations[i], None, Step(rewards[i], observations[i], *ends, valid[i]))
        call.done += 1
    writer.row(4, 0.1, 4)
    row = writer.finish()
    sessions = {  # lane: first observation and rewards of each session that ended
        0: [(0.0, [1, 4, 7])],
        1: [(1.0, [2]), (7.0, [8, 11])],
        2: [(2.0, [3, 6])],
    }
    rows = [session for lane in sessions.values() for session in lane]
    expected = [sum(0.5**k * r for k, r in enumerate(rewards)) for _, rewards in rows]
    assert row.discounted_return == pytest.approx(np.mean(expected))
    assert row.mean_return == pytest.approx(np.mean([sum(r) for _, r in rows]))
    assert row.mean_length == pytest.approx(np.mean([len(r) for _, r in rows]))
    assert row.start_value == pytest.approx(np.mean([first for first, _ in rows]))
    assert (row.transitions, row.buffer_size, row.epsilon) == (4, 4, 0.1)
    json.dumps(call.curve)


def test_a_row_of_the_curve_tells_of_its_own_stretch_and_keeps_no_array_of_the_callers():
    """One session a step. Two stretches of two steps; the second learns and earns otherwise."""
    call = TrainingCall(100, 100, 1)
    writer = CurveWriter(shown, call, 0.5, progress=False)
    observation, yes, no = np.zeros((1, 1)), np.ones(1, bool), np.zeros(1, bool)
    for stretch, (paid, error, value) in enumerate([(1.0, 0.25, 4.0), (3.0, 0.5, -2.0)]):
        for step in range(2):
            observation[:] = 2 * stretch
            writer.watch(observation, None, Step(np.array([paid]), observation, yes, no, yes))
            observation[:] = 99.0
            writer.updates(error, value)
            call.done += 1
            assert writer.due == (step == 1)
        writer.row(2 * stretch + 2, 0.1, 2)
    rows = writer.finish()
    assert rows.mean_return.tolist() == rows.discounted_return.tolist() == [1.0, 3.0]
    assert rows.td_error.tolist() == [0.25, 0.5]
    assert rows.q_value.tolist() == [4.0, -2.0]
    assert rows.start_value.tolist() == [0.0, 2.0]
    writer = CurveWriter(shown, TrainingCall(100, 100, 2), 0.5, progress=False)
    given = np.zeros((2, 1))
    step = Step(np.ones(2), given, np.array([True, False]), no.repeat(2), yes.repeat(2))
    writer.watch(given, None, step)
    step = Step(np.ones(2), given, no.repeat(2), no.repeat(2), yes.repeat(2))
    writer.watch(given + 5, None, step)
    assert not given.any(), "the caller's array was written over"


def test_the_curve_promises_only_what_is_allowed_at_the_door():
    """Session 1's first mask forbids the larger value; lane 0 starts a session with another."""
    writer = CurveWriter(shown, TrainingCall(2, 100, 2), 1.0, progress=False)
    observation, yes, no = np.array([[1.0, 8.0], [2.0, 9.0]]), np.ones(2, bool), np.zeros(2, bool)
    first = Step(np.ones(2), observation, np.array([True, False]), no, yes)
    masks = np.array([[True, False], [False, True]])
    writer.watch(observation, masks, first)
    masks[:] = True
    writer.watch(observation, masks, Step(np.ones(2), observation, yes, no, yes))
    writer.row(4, 0.1, 4)
    assert writer.finish().start_value == pytest.approx(np.mean([1.0, 8.0, 9.0]))


def test_an_agent_that_has_learnt_promises_about_what_it_earns():
    """One room, reward 1, ends with chance 0.2: worth 1 / (1 - 0.9 * 0.8) at the door."""
    from dqnrec_lite import FiniteMDP
    from dqnrec_lite.envs.tabular import TabularVectorEnv

    joint = np.array([[[[0.8, 0.2]]], [[[0.0, 1.0]]]])
    mdp = FiniteMDP(joint, np.array([[[1.0]], [[0.0]]]), np.array([1.0, 0.0]),
                    np.array([False, True]), np.array([[1.0], [0.0]], np.float32))  # fmt: skip
    kept = {"target_sync_every": 20, "updates_per_transition": 0.05}
    config = DQNConfig(discount=0.9, hidden_sizes=(), learning_rate=0.03, **kept)
    envs = TabularVectorEnv(mdp, 64)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    curve = agent.learn(envs, 20_000)
    worth = 1 / (1 - 0.9 * 0.8)
    assert curve.start_value[-5:].mean() == pytest.approx(worth, rel=0.05)
    assert curve.discounted_return[-20:].mean() == pytest.approx(worth, rel=0.05)
    assert curve.mean_return[-20:].mean() == pytest.approx(5.0, rel=0.05)


def test_the_training_figure_has_six_labelled_panels_and_names_both_lines():
    agent, envs = new_agent()
    curve = agent.learn(envs, 2000)
    use_house_style()
    figure, axes = plot_training(curve, unit="points")
    assert axes.shape == (3, 2)
    titles = [panel.get_title(loc="left") for panel in axes.flat]
    assert len(set(titles)) == 6
    assert sum("(points)" in title for title in titles) == 3
    assert {text.get_text() for text in axes[0, 1].texts} == {"promised", "earned"}
    assert all("transitions" in panel.get_xlabel() for panel in axes[-1])
    figure.canvas.draw()
    plot_training(LearningCurve(*(column[:1] for column in curve)))  # one row, mostly NaN
