"""Whoever imports and trains stays as he was, except where he asks for it; and what is refused is
refused before anything has happened.
"""

import json
import os
import shutil
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from test_agent import SMALL, filled
from test_doors import Bandit
from test_sessions import Counting

from dqnrec_lite import DQN, DQNConfig, make_shop, seed_everything
from dqnrec_lite.curve import TrainingCall

TRAIN = """
import gymnasium, numpy as np
from dqnrec_lite import DQN, DQNConfig
from dqnrec_lite.replay import Batch
agent = DQN(gymnasium.spaces.Box(0, 1, (1,)), gymnasium.spaces.Discrete(3),
            DQNConfig(hidden_sizes=(8,), learning_rate=0.02, batch_size=16, learning_starts=32))
action, one = np.arange(300) % 3, np.ones(300)
agent.replay.add(Batch(one[:, None], action, (action == 2) * 1.0, one[:, None], one, one))
agent.update(300)
q = agent.q_values(np.ones((1, 1)))
"""


def run(program: str, **options) -> subprocess.CompletedProcess:
    """A program in a process of its own; what it prints last is JSON."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **options)


def test_importing_making_and_training_change_nothing_in_the_process():
    """Beside what TensorFlow itself does when it is imported, which comes first here."""
    program = f"""
import json, os, random, sys, warnings
import gymnasium, keras, numpy as np, tensorflow as tf
from tqdm.auto import tqdm

def state():
    threads = tf.config.threading
    return {{
        "environment": dict(os.environ),
        "random": random.getstate(),
        "numpy": [part.tolist() if hasattr(part, "tolist") else part
                  for part in np.random.get_state()],
        "numpy errors": np.geterr(),
        "threads": [threads.get_intra_op_parallelism_threads(),
                    threads.get_inter_op_parallelism_threads()],
        "stderr": [os.fstat(2).st_ino, os.fstat(2).st_dev, sys.stderr is sys.__stderr__],
        "warnings": [str(entry) for entry in warnings.filters],
        "registry": sorted(gymnasium.registry),
        "dtype": keras.config.floatx(),
        "path": list(sys.path),
    }}

before = state()
{TRAIN}
envs = gymnasium.make_vec("CartPole-v1", 4)
pole = DQN(envs.single_observation_space, envs.single_action_space,
           DQNConfig(batch_size=16, learning_starts=32, updates_per_transition=0.5))
pole.learn(envs, 400)
after = state()
drawn = tf.random.normal((2,)).numpy().tolist()  # needs a seed where all is deterministic
shuffled = sorted(int(i) for i in tf.data.Dataset.range(5).shuffle(5))
print(json.dumps([before, after, pole.updates, q.tolist(), drawn, shuffled]))
"""
    before, after, updates, q, drawn, shuffled = json.loads(run(program).stdout)
    assert set(after["registry"]) - set(before["registry"]) == {
        "dqnrec_lite/Shop-v0",
        "dqnrec_lite/PocketShop-v0",
    }
    changed = [name for name in before if name != "registry" and before[name] != after[name]]
    assert not changed, {name: (before[name], after[name]) for name in changed}
    assert updates > 100
    np.testing.assert_allclose(q, [[0, 0, 1]], atol=0.1)
    assert len(drawn) == 2
    assert shuffled == list(range(5))


def test_what_needs_no_network_comes_without_tensorflow():
    program = """
import json, sys
from dqnrec_lite import (
    DQNConfig, FiniteMDP, LearningCurve, PocketShop, Score, evaluate, make_shop, policy_value,
    value_iteration,
)
import dqnrec_lite.baselines, dqnrec_lite.logs, dqnrec_lite.nstep, dqnrec_lite.plotting
import dqnrec_lite.checkpoint, dqnrec_lite.encoding, dqnrec_lite.envs.oracle, dqnrec_lite.replay
import dqnrec_lite.rewards, dqnrec_lite.sessions, dqnrec_lite.targets
import numpy as np
from dqnrec_lite.studies import rows
rows("shop", "DQN")
value_iteration(PocketShop().mdp, 0.9)
evaluate(lambda observations: np.zeros(4, int), make_shop(4), 5)
dqnrec_lite.targets.dqn_value(np.zeros((2, 3)))
print(json.dumps([name for name in ("tensorflow", "keras") if name in sys.modules]))
"""
    assert json.loads(run(program).stdout) == []


@pytest.mark.skipif(sys.platform == "win32", reason="closed by POSIX's means")
def test_it_imports_and_answers_where_stderr_is_closed():
    program = """
import os
os.close(2)
import gymnasium, numpy as np
from dqnrec_lite import DQN
agent = DQN(gymnasium.spaces.Box(0, 1, (2,)), gymnasium.spaces.Discrete(3))
print(list(agent.q_values(np.ones((4, 2))).shape))
"""
    assert json.loads(run(program).stdout) == [4, 3]


def seeded(seed: int, late: bool = False, **environment: str) -> dict:
    """What a fresh process has after the call; with `late` TensorFlow computes before it."""
    program = f"""
import json, random, warnings
import numpy as np, tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled
from dqnrec_lite import seed_everything
if {late}:
    (tf.ones((2, 2)) @ tf.ones((2, 2))).numpy()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    seed_everything({seed})
told = [str(warning.message) for warning in caught if "seed_everything" in str(warning.message)]
drawn = [random.random(), float(np.random.rand()), float(tf.random.uniform(()))]
threads = tf.config.threading.get_intra_op_parallelism_threads()
print(json.dumps(dict(told=told, drawn=drawn, threads=threads,
                      deterministic=is_op_determinism_enabled())))
"""
    return json.loads(run(program, env={**os.environ, **environment}).stdout)


def test_seed_everything_does_what_it_says_and_warns_where_it_comes_too_late():
    """That agents learn after it, all other tests of the package show: conftest calls it."""
    one, again, other = seeded(5), seeded(5), seeded(6, TF_NUM_INTRAOP_THREADS="2")
    assert one == again
    assert all(a != b for a, b in zip(one["drawn"], other["drawn"], strict=True))
    for found in (one, other):
        assert found["deterministic"]
        assert found["told"] == []
    assert (one["threads"], other["threads"]) == (1, 0)  # 0: as the environment says
    late = seeded(5, late=True)
    assert len(late["told"]) == 1
    assert "TensorFlow has computed already" in late["told"][0]
    assert late["drawn"] == one["drawn"]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, None, "0", True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed=.* in \[0, 4294967295\] expected"):
        seed_everything(seed)


# --- Refused before anything has happened ---------------------------------------------------------


class Watched(gym.vector.VectorWrapper):
    """Counts resets and steps; `at` is called before the step of that number."""

    def __init__(self, envs, at: int = 0, call=None) -> None:
        super().__init__(envs)
        self.resets = self.steps = 0
        self.at, self.call = at, call

    def reset(self, **options):
        self.resets += 1
        return super().reset(**options)

    def step(self, actions):
        self.steps += 1
        if self.steps == self.at:
            self.call()
        return super().step(actions)


def shop_agent(envs, **changes) -> DQN:
    config = DQNConfig(**{"hidden_sizes": (4,), "batch_size": 8, "learning_starts": 8} | changes)
    return DQN(envs.single_observation_space, envs.single_action_space, config)


@pytest.mark.parametrize(("sessions", "n_step"), [(65, 1), (200, 1), (40, 2), (13, 5)])
def test_more_sessions_than_the_buffer_holds_are_refused_before_anything(
    tmp_path, sessions, n_step
):
    envs = Watched(make_shop(sessions))
    agent = shop_agent(envs, buffer_size=64, n_step=n_step)
    most = sessions * n_step
    with pytest.raises(ValueError, match=rf"up to {most} transitions .*buffer_size=64") as caught:
        agent.learn(envs, 600, checkpoint_dir=tmp_path / "new")
    caught.match(f"envs: {sessions} sessions")
    assert (envs.resets, envs.steps, len(agent.replay), agent.transitions) == (0, 0, 0, 0)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("sessions", "n_step"), [(64, 1), (32, 2), (12, 5)])
def test_as_many_as_it_holds_are_taken(tmp_path, sessions, n_step):
    envs = make_shop(sessions, page_limit=3)
    agent = shop_agent(envs, buffer_size=64, n_step=n_step)
    agent.learn(envs, 600, checkpoint_dir=tmp_path, checkpoint_every=100)
    assert agent.transitions >= 600
    assert len(agent.replay) == 64


def test_a_refused_nested_learn_has_reset_nothing():
    refused = []

    def nested():
        with pytest.raises(RuntimeError, match="learn is running"):
            agent.learn(envs, 16)
        refused.append((envs.resets, agent.transitions))

    envs = Watched(make_shop(4), 3, nested)
    agent = shop_agent(envs, buffer_size=64)
    agent.learn(envs, 40)
    assert refused == [(1, 8)]
    assert envs.resets == 1
    assert agent.transitions == 40


@pytest.mark.parametrize(
    "wrong",
    [
        {"envs": Bandit()},
        {"envs": make_shop(65)},
        {"envs": make_shop(2)},
        {"envs": "Shop"},
        {"total_steps": 0},
        {"total_steps": 200},
        {"checkpoint_every": 0.5},
        {"checkpoint_dir": None},
        {"checkpoint_dir": 7},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_refused_learn_keeps_the_unfinished_call_and_resets_nothing(tmp_path, wrong):
    envs = Watched(make_shop(4))
    agent = shop_agent(envs, buffer_size=64)
    agent.unfinished = call = TrainingCall(100, 50, 4, 52)
    asked = {"envs": envs, "total_steps": 100, "checkpoint_every": 50, "checkpoint_dir": tmp_path}
    with pytest.raises((ValueError, TypeError)):
        agent.learn(**asked | wrong)
    assert agent.unfinished is call
    assert (envs.resets, agent.transitions, len(agent.replay)) == (0, 0, 0)


def test_a_failed_checkpoint_leaves_no_unfinished_call_and_an_agent_that_learns(tmp_path):
    folder = tmp_path / "agent"

    def no_folder_any_more():
        shutil.rmtree(folder)
        folder.write_text("no folder")

    envs = Watched(make_shop(4), 3, no_folder_any_more)
    agent = shop_agent(envs, buffer_size=64)
    with pytest.raises(OSError, match="agent"):
        agent.learn(envs, 100, checkpoint_dir=folder, checkpoint_every=20)
    assert agent.unfinished is None
    assert agent.transitions == 20
    agent.learn(make_shop(4), 16)
    agent.save(tmp_path / "elsewhere")
    assert DQN.load(tmp_path / "elsewhere").transitions == 36


def test_what_is_refused_at_replay_and_at_questions_leaves_the_agent_as_it_was():
    agent = filled(DQN(Counting.observation_space, Counting.action_space, SMALL), 20)
    state, size = agent.rng.bit_generator.state, len(agent.replay)
    some = agent.replay.sample(4, np.random.default_rng(0))
    refusals = [
        lambda: agent.replay.add(some._replace(reward=np.full(4, np.nan))),
        lambda: agent.replay.add(tuple(some)),
        lambda: agent.replay.add(None),
        lambda: agent.predict(np.zeros((1, 3))),
        lambda: agent.predict(np.zeros((1, 4)), action_mask=np.zeros((1, 6))),
        lambda: agent.q_values([[None] * 4]),
        lambda: agent.update(0),
        lambda: agent.learn(make_shop(2), 10),
    ]
    for refused in refusals:
        with pytest.raises((ValueError, TypeError)):
            refused()
    assert agent.rng.bit_generator.state == state
    assert (len(agent.replay), agent.updates, agent.transitions) == (size, 0, 0)
