"""Speed of the package on this machine, beside the floor that NumPy and BLAS set (`make bench`).

A table on the screen, and the same as JSON in `book/data/bench.json`, which the book shows. What
belongs together is measured in turn. The first round warms up and compiles; it counts nowhere. The
floor has as many BLAS threads as serve it best, one or all; shares of it are taken within a round.
An error if the Shop makes less than a million pages a second on one core, or if an update from
prioritised replay costs more than 1.3 times one from uniform replay.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import floor
import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from measuring import ROOT, in_turn, machine, spread, timed, versions, write

from dqnrec_lite import DQN, DQNConfig, make_shop, seed_everything
from dqnrec_lite.encoding import HistoryEncoder
from dqnrec_lite.replay import Batch

RESULT = ROOT / "book/data/bench.json"
ROUNDS = 7
UPDATES = 2_048  # timed at once
REQUIRED = 1_000_000  # pages a second of the Shop, one core
MOST = 1.3  # times the cost of a uniform update, for a prioritised one
POLE = DQNConfig(
    seed=0,
    discount=0.99,
    hidden_sizes=(120, 84),
    batch_size=128,
    buffer_size=50_000,
    updates_per_transition=1.0,
)
SHOP = DQNConfig(seed=0, updates_per_transition=0.05)

Row = dict[str, Any]


def agent_for(envs: VectorEnv, config: DQNConfig) -> DQN:
    return DQN(envs.single_observation_space, envs.single_action_space, config)


def rows_of(group: str, rates: dict[str, list[float]]) -> list[Row]:
    return [
        {"group": group, "name": name, **spread(found), "runs": found}
        for name, found in rates.items()
    ]


def simulator(sessions: int = 1024, steps: int = 400) -> list[Row]:
    """Shop, its encoder and Gymnasium's CartPole with random actions, on one core."""
    rng = np.random.default_rng(0)
    items = rng.integers(0, 12, (steps, sessions))
    events = rng.integers(0, 4, (steps, sessions))
    pushes = rng.integers(0, 2, (steps, sessions))
    shop, encoder = make_shop(sessions), HistoryEncoder(sessions, 4, 3, 40)
    pole = gym.make_vec("CartPole-v1", num_envs=sessions)
    shop.reset(seed=0)
    pole.reset(seed=0)

    def each_step(name: str, step: Callable[[int], object]) -> Callable[[], dict[str, float]]:
        def run() -> None:
            for number in range(steps):
                step(number)

        return lambda: {name: timed(run, each=steps * sessions)}

    works = [
        each_step("Shop", lambda i: shop.step(items[i])),
        each_step("the encoder alone", lambda i: encoder.update(items[i], events[i])),
        each_step("CartPole-v1, Gymnasium", lambda i: pole.step(pushes[i])),
    ]
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if cores:
        os.sched_setaffinity(0, {min(cores)})
    rates = in_turn(works, ROUNDS)
    if cores:
        os.sched_setaffinity(0, cores)
    rows = rows_of(f"simulator: {sessions:,} sessions, one core", rates)
    return [row | {"unit": "transitions/s"} for row in rows]


def training(task: str, envs: VectorEnv, config: DQNConfig, steps: int) -> list[Row]:
    """Acting, updating and `learn` as a whole, and the floor, in turn.

    Updating is `learn` with so many gradient steps to a transition that nothing else matters.
    `learn` as a whole is timed from its second call on: replay is filled, everything compiled.
    """
    configs = {f"{name}DQN": replace(config, double=bool(name)) for name in ("Double ", "")}
    agents = {name: agent_for(envs, settings) for name, settings in configs.items()}
    share = UPDATES / envs.num_envs
    updating = {
        name: agent_for(envs, replace(settings, learning_starts=1, updates_per_transition=share))
        for name, settings in configs.items()
    }
    observations, _ = envs.reset(seed=0)
    sizes = [observations.shape[1], *config.hidden_sizes, len(agents["DQN"].actions)]
    compiling = {}
    for name, agent in updating.items():
        fill(agent)
        first, second = update_rate(agent, envs), update_rate(agent, envs)
        compiling[f"updating, {name}"] = UPDATES / first - UPDATES / second

    def ours() -> dict[str, float]:
        predict = partial(agents["DQN"].predict, observations)
        found = {"acting, DQN.predict": timed(predict, seconds=floor.SECONDS)}
        for name in configs:
            found[f"updating, {name}"] = update_rate(updating[name], envs)
            found[f"learn, {name}"] = learn_rate(agents[name], envs, steps)
        return found

    def floors() -> dict[str, float]:
        found = {}
        for threads in sorted({1, os.cpu_count() or 1}):
            rates = floor.rates(sizes, config.batch_size, envs.num_envs, threads)
            found |= {f"{name}; {threads}": rate for name, rate in rates.items()}
        return found

    rates, threads = best_threads(in_turn([ours, floors], ROUNDS - 2))
    layers = "-".join(map(str, sizes))
    group = f"{task}: {envs.num_envs} sessions, layers {layers}, batch {config.batch_size}"
    rows = rows_of(group, rates)
    compare(rows, config.updates_per_transition)
    for row in rows:
        for key, of in (("compile_seconds", compiling), ("threads", threads)):
            if row["name"] in of:
                row[key] = of[row["name"]]
    return rows


def prioritising(task: str, envs: VectorEnv, config: DQNConfig) -> list[Row]:
    """Updating from prioritised replay and from uniform, in turn; how many times the cost."""
    share = UPDATES / envs.num_envs
    settings = replace(config, learning_starts=1, updates_per_transition=share)
    kinds = {"uniform": settings, "prioritised": replace(settings, prioritised=0.6)}
    agents = {f"updating, {kind}": agent_for(envs, one) for kind, one in kinds.items()}
    for agent in agents.values():
        fill(agent)
    works = [lambda n=name: {n: update_rate(agents[n], envs)} for name in agents]
    rates = in_turn(works, ROUNDS - 2)
    rows = [row | {"unit": "updates/s"} for row in rows_of(f"{task}: what priorities cost", rates)]
    uniform, prioritised = rates.values()
    rows[1]["times_cost"] = spread([u / p for u, p in zip(uniform, prioritised, strict=True)])
    return rows


def compare(rows: list[Row], updates_per_transition: float) -> None:
    """Add the unit, and the share of the NumPy floor's rate that our own rows reach.

    A share is taken within a round; its median and range are over the rounds.
    """
    runs = {row["name"]: row["runs"] for row in rows}
    for row in rows:
        kind, name = row["name"].split(", ", 1)
        acts = "acting" in (kind, name)
        row["unit"] = "calls/s" if acts else "updates/s"
        if kind == "learn":
            row["unit"] = "transitions/s"
        if kind in ("acting", "updating", "learn"):
            each = updates_per_transition if kind == "learn" else 1.0
            below = runs[f"{floor.NUMPY}, {'acting' if acts else name}"]
            row["share_of_floor"] = spread(
                [each * rate / least for rate, least in zip(row["runs"], below, strict=True)]
            )


def best_threads(
    rates: dict[str, list[float]],
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Of the rows "name; threads" the fastest, as "name", and how many threads it has."""
    best: dict[str, list[float]] = {}
    threads = {}
    for full, found in rates.items():
        name, _, number = full.partition("; ")
        if name not in best or median(found) > median(best[name]):
            best[name] = found
            if number:
                threads[name] = int(number)
    return best, threads


def update_rate(agent: DQN, envs: VectorEnv) -> float:
    """Gradient steps a second: one step of all sessions, and the updates that it earns."""
    before, start = agent.updates, time.perf_counter()
    agent.learn(envs, total_steps=1, progress=False)
    return (agent.updates - before) / (time.perf_counter() - start)


def learn_rate(agent: DQN, envs: VectorEnv, steps: int) -> float:
    """Transitions a second."""
    before, start = agent.transitions, time.perf_counter()
    agent.learn(envs, steps, progress=False)
    return (agent.transitions - before) / (time.perf_counter() - start)


def fill(agent: DQN) -> None:
    """A full replay of random transitions, so that reading it costs what it costs in earnest."""
    rng, count = np.random.default_rng(0), agent.config.buffer_size
    shape = (count, agent.observation_size)
    agent.replay.add(
        Batch(
            rng.normal(size=shape),
            rng.integers(0, len(agent.actions), count),
            rng.normal(size=count),
            rng.normal(size=shape),
            np.zeros(count),
            np.ones(count),
        )
    )


def table(rows: list[Row]) -> str:
    lines, group = [], None
    for row in rows:
        if row["group"] != group:
            group = row["group"]
            lines += ["", group]
        figures = f"{row['median']:12,.0f} {row['unit']:14s}"
        figures += f"{row['low']:11,.0f} to {row['high']:10,.0f}"
        notes = []
        if "share_of_floor" in row:
            share = "{:.0%} ({:.0%} to {:.0%})".format(*row["share_of_floor"].values())
            notes.append(f"{share} of the NumPy floor")
        if "times_cost" in row:
            times = "{:.2f} ({:.2f} to {:.2f})".format(*row["times_cost"].values())
            notes.append(f"{times} times the cost of uniform")
        if "compile_seconds" in row:
            notes.append(f"compiled in {row['compile_seconds']:.1f} s")
        if "threads" in row:
            notes.append(f"BLAS threads: {row['threads']}")
        lines.append(f"  {row['name']:26s}{figures}   {', '.join(notes)}".rstrip())
    return "\n".join(lines)


def store(rows: list[Row], path: Path = RESULT) -> None:
    used = versions("dqnrec-lite", "tensorflow", "keras", "numpy", "gymnasium")
    write(path, {"versions": used, "rows": rows})


def main() -> int:
    seed_everything(0)  # its threads and its determinism are what a reader's training runs with
    print(f"Median and range of {ROUNDS} rounds ({ROUNDS - 2} in training), after one to warm up.")
    print(", ".join(f"{key}: {value}" for key, value in machine().items()), flush=True)
    rows = simulator()
    print(table(rows), flush=True)
    tasks = [
        ("CartPole-v1", gym.make_vec("CartPole-v1", num_envs=8), POLE, 6_000),
        ("Shop", make_shop(64, seed=0), SHOP, 60_000),
    ]
    for task, envs, config, steps in tasks:
        for more in (training(task, envs, config, steps), prioritising(task, envs, config)):
            print(table(more), flush=True)
            rows += more
    store(rows)
    print(f"\nStored in {RESULT.relative_to(ROOT)}.")
    if rows[0]["median"] < REQUIRED:
        print(f"Too slow: {REQUIRED:,} pages a second are required.", file=sys.stderr)
        return 1
    if any(row["times_cost"]["median"] > MOST for row in rows if "times_cost" in row):
        print(f"Too slow: a prioritised update may cost {MOST} uniform ones.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
