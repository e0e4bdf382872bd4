"""Saving an agent whole, without pickle, so that training resumes bit for bit."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from dqnrec_lite._checks import check_path
from dqnrec_lite.config import DQNConfig
from dqnrec_lite.replay import Batch

if TYPE_CHECKING:
    from dqnrec_lite.agent import DQN

FORMAT = 2
LAST, PREVIOUS = "agent.npz", "agent.previous.npz"


@dataclass
class Unfinished:
    """A training call that stopped at a checkpoint: its arguments, and how far it came."""

    total_steps: int
    checkpoint_every: int
    num_envs: int
    done: int = 0  # transitions of this call
    curve: list[tuple[float, ...]] = field(default_factory=list)  # rows of its `LearningCurve`


def save_agent(agent: DQN, directory: str | os.PathLike[str]) -> None:
    """Write weights, optimiser, replay buffer, counters and generator to `directory`/agent.npz.

    The file is written under another name, flushed to disk and then renamed; the file before it is
    kept as agent.previous.npz. So at every moment one of the two is whole, whatever kills the
    process.
    """
    folder = check_path("directory", directory)
    folder.mkdir(parents=True, exist_ok=True)
    agent._wait()
    state = {
        "format": FORMAT,
        "config": asdict(agent.config),
        "num_actions": agent.num_actions,
        "replay": [agent.replay.position, agent.replay.size],
        "counters": [agent.transitions, agent.updates, agent.owed],
        "rng": agent.rng.bit_generator.state,
        "unfinished": asdict(agent.unfinished) if agent.unfinished else None,
    }
    box: Any = agent.observation_space
    arrays: dict[str, Any] = {
        "state": np.array(json.dumps(state)),
        "low": box.low,
        "high": box.high,
    }
    arrays |= {f"variable_{i}": v.numpy() for i, v in enumerate(agent.variables())}
    for name, kept in zip(Batch._fields, agent.replay.data, strict=True):
        arrays[f"replay_{name}"] = kept[: agent.replay.size]
    temporary = folder / "agent.npz.tmp"
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    if (folder / LAST).exists():
        os.replace(folder / LAST, folder / PREVIOUS)
    os.replace(temporary, folder / LAST)
    if os.name == "posix":  # the new names too, not only the contents, must outlive a power cut
        names = os.open(folder, os.O_RDONLY)
        os.fsync(names)
        os.close(names)


def load_agent(kind: type[DQN], directory: str | os.PathLike[str], previous: bool = False) -> DQN:
    """The agent that `save_agent` wrote last, or with `previous` the one it wrote before.

    Raises:
        FileNotFoundError: there is no agent in `directory`.
        ValueError: the file is damaged, or was not written by `save_agent`. The message tells
            whether there is a previous one. None is taken in silence for the other.
    """
    folder = check_path("directory", directory)
    path, other = folder / (PREVIOUS if previous else LAST), folder / PREVIOUS
    advice = ""
    if not previous and other.is_file():
        advice = (
            f"; {PREVIOUS} holds the save before it: DQN.load({str(directory)!r}, previous=True)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no saved agent here; DQN.save writes one{advice}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        state = json.loads(str(arrays["state"]))
        if state["format"] != FORMAT:
            raise ValueError(f"format {state['format']}, this version reads {FORMAT}")
        box = gym.spaces.Box(arrays["low"], arrays["high"], dtype=arrays["low"].dtype)
        actions = gym.spaces.Discrete(state["num_actions"])
        agent = kind(box, actions, DQNConfig(**state["config"]))
        for i, variable in enumerate(agent.variables()):
            variable.assign(arrays[f"variable_{i}"])
        agent.replay.position, agent.replay.size = state["replay"]
        for name, kept in zip(Batch._fields, agent.replay.data, strict=True):
            kept[: agent.replay.size] = arrays[f"replay_{name}"]
        agent.transitions, agent.updates, agent.owed = state["counters"]
        agent.rng.bit_generator.state = state["rng"]
        if state["unfinished"] is not None:
            agent.unfinished = Unfinished(**state["unfinished"])
    except Exception as error:
        raise ValueError(f"{path}: damaged, or not a saved agent ({error}){advice}") from error
    return agent
