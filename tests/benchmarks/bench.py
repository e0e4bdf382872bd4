"""Speed of the package on this machine, beside the floor that NumPy and BLAS set (`make bench`).

A table on the screen, and the same as JSON in `_build/bench/bench.json`. What belongs together is
measured in turn. The first round warms up and compiles; it counts nowhere. An error if the Shop
makes less than a million pages a second on one core.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import floor
import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from measuring import ROOT, in_turn, machine, spread, versions, write

from dqnrec_lite import DQN, DQNConfig, make_shop
from dqnrec_lite.encoding import HistoryEncoder
from dqnrec_lite.replay import Batch

ROUNDS = 7
REQUIRED = 1_000_000  # pages a second of the Shop, one core
POLE = DQNConfig(
    seed=0,
    discount=0.99,
    hidden_sizes=(120, 84),
    batch_size=128,
    buffer_size=50_000,
    updates_per_transition=1.0,
)
SHOP = DQNConfig(seed=0)

Row = dict[str, Any]


def shapes(agent: DQN) -> list[int]:
    """Units of each layer, observation and actions included."""
    return [agent.observation_size, *agent.config.hidden_sizes, agent.num_actions]


def agent_for(envs: VectorEnv, config: DQNConfig) -> DQN:
    return DQN(envs.single_observation_space, envs.single_action_space, config)


def rows_of(group: str, unit: str, rates: dict[str, list[float]], **extra: Any) -> list[Row]:
    return [
        {"group": group, "name": name, "unit": unit, **spread(found), "runs": found, **extra}
        for name, found in rates.items()
    ]


def repeat(work: Callable[[], object], times: int, each: int = 1) -> Callable[[], int]:
    """`work` many times, as `in_turn` wants it; one does `each` things."""

    def run() -> int:
        for _ in range(times):
            work()
        return times * each

    return run


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

    def each_step(work: Callable[[int], object]) -> Callable[[], int]:
        def run() -> int:
            for number in range(steps):
                work(number)
            return steps * sessions

        return run

    works = {
        "Shop": each_step(lambda i: shop.step(items[i])),
        "the encoder alone": each_step(lambda i: encoder.update(items[i], events[i])),
        "CartPole-v1, Gymnasium": each_step(lambda i: pole.step(pushes[i])),
    }
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if cores:
        os.sched_setaffinity(0, {min(cores)})
    rates = in_turn(works, ROUNDS)
    if cores:
        os.sched_setaffinity(0, cores)
    return rows_of(f"simulator, {sessions:,} sessions, one core", "transitions/s", rates)


def acting(task: str, envs: VectorEnv, config: DQNConfig, times: int = 500) -> list[Row]:
    """Greedy actions for one observation of every session."""
    agent = agent_for(envs, config)
    observations, _ = envs.reset(seed=0)
    layers = floor.random_layers(shapes(agent), seed=0)
    kernels = [kernel for kernel, _ in layers]
    inputs = [np.ones((envs.num_envs, len(kernel)), np.float32) for kernel in kernels]

    def products() -> None:
        for array, kernel in zip(inputs, kernels, strict=True):
            np.matmul(array, kernel)

    works = {
        "DQN.predict": partial(agent.predict, observations),
        "NumPy floor": lambda: floor.forward(layers, observations)[-1].argmax(axis=1),
        "BLAS products": products,
    }
    rates = in_turn({name: repeat(work, times) for name, work in works.items()}, ROUNDS)
    return rows_of(f"acting, {task}, {envs.num_envs} observations", "calls/s", rates)


def updating(task: str, envs: VectorEnv, config: DQNConfig, count: int = 2000) -> list[Row]:
    """Gradient steps: `learn` with so many to each transition that nothing else matters."""
    config = replace(config, learning_starts=1, updates_per_transition=count / envs.num_envs)
    agents = {
        "Double DQN": agent_for(envs, config),
        "DQN": agent_for(envs, replace(config, double=False)),
    }
    sizes = shapes(agents["DQN"])
    batch = floor.random_minibatch(config.batch_size, sizes, seed=0)
    online, target = floor.random_layers(sizes, seed=0), floor.random_layers(sizes, seed=1)
    works: dict[str, Callable[[], int]] = {}
    first: dict[str, float] = {}
    for name, agent in agents.items():
        double = agent.config.double
        fill(agent)
        start = time.perf_counter()
        made = updates(agent, envs)
        first[name] = (time.perf_counter() - start) / made
        works[name] = partial(updates, agent, envs)
        bare = partial(floor.gradient, online, target, batch, config.discount, double)
        works[f"{name}: NumPy floor"] = repeat(bare, count // 4)
        blas = floor.products(sizes, config.batch_size, double)
        works[f"{name}: BLAS products"] = repeat(blas, count // 4)
    rates = in_turn(works, ROUNDS)
    rows = rows_of(f"updating, {task}, batch {config.batch_size}", "updates/s", rates)
    for row in rows:
        if row["name"] in first:
            row["compile_seconds"] = count * (first[row["name"]] - 1 / row["median"])
    return rows


def fill(agent: DQN) -> None:
    """A full replay of random transitions, so that reading it costs what it costs in earnest."""
    rng, count = np.random.default_rng(0), agent.config.buffer_size
    shape = (count, agent.observation_size)
    agent.replay.add(
        Batch(
            rng.normal(size=shape),
            rng.integers(0, agent.num_actions, count),
            rng.normal(size=count),
            rng.normal(size=shape),
            np.zeros(count),
            np.ones(count),
        )
    )


def updates(agent: DQN, envs: VectorEnv) -> int:
    """One step of all sessions, and the gradient steps that it earns."""
    before = agent.updates
    agent.learn(envs, total_steps=1, progress=False)
    return agent.updates - before


def learning(task: str, envs: VectorEnv, config: DQNConfig, steps: int) -> list[Row]:
    """`learn` as a whole, from the second call on: replay filled, all compiled."""
    agents = {
        "Double DQN": agent_for(envs, config),
        "DQN": agent_for(envs, replace(config, double=False)),
    }

    def learn(agent: DQN) -> int:
        before = agent.transitions
        agent.learn(envs, steps, progress=False)
        return agent.transitions - before

    rates = in_turn({name: partial(learn, agent) for name, agent in agents.items()}, ROUNDS - 2)
    return rows_of(
        f"DQN.learn, {task}, {envs.num_envs} sessions",
        "transitions/s",
        rates,
        updates_per_transition=config.updates_per_transition,
    )


def with_floor(rows: list[Row]) -> None:
    """`share`: what part of the NumPy floor's rate a row reaches, `learn` by its updates."""
    task_floor: dict[str, float] = {}
    for row in rows:
        kind, task = row["group"].split(", ")[:2]
        floor_row = "NumPy floor" if kind == "acting" else f"{row['name']}: NumPy floor"
        beside = {r["name"]: r["median"] for r in rows if r["group"] == row["group"]}
        if kind == "updating" and floor_row in beside:
            task_floor[f"{task} {row['name']}"] = beside[floor_row]
        if kind == "DQN.learn":
            floor_rate = task_floor[f"{task} {row['name']}"]
            row["share"] = row["median"] * row["updates_per_transition"] / floor_rate
        elif floor_row in beside and floor_row != row["name"]:
            row["share"] = row["median"] / beside[floor_row]


def table(rows: list[Row]) -> str:
    lines, group = [], None
    for row in rows:
        if row["group"] != group:
            group = row["group"]
            lines += ["", f"{group} ({row['unit']})"]
        share = f"{row['share']:7.0%} of the NumPy floor" if "share" in row else ""
        compiled = row.get("compile_seconds")
        share += f", first call {compiled:.1f} s more" if compiled is not None else ""
        figures = f"{row['median']:12,.0f}   {row['low']:10,.0f} to {row['high']:10,.0f}"
        lines.append(f"  {row['name']:28s}{figures} {share}".rstrip())
    return "\n".join(lines)


def main() -> int:
    shop, pole = make_shop(64, seed=0), gym.make_vec("CartPole-v1", num_envs=8)
    tasks = {"CartPole-v1": (pole, POLE, 8_000), "Shop": (shop, SHOP, 60_000)}
    print(f"Median and range of {ROUNDS} rounds ({ROUNDS - 2} of `learn`), after one to warm up.")
    print(", ".join(f"{key}: {value}" for key, value in machine().items()), flush=True)
    rows: list[Row] = []

    def done(more: list[Row]) -> None:
        rows.extend(more)
        with_floor(rows)
        print(table(more), flush=True)

    done(simulator())
    for task, (envs, config, steps) in tasks.items():
        done(acting(task, envs, config))
        done(updating(task, envs, config))
        done(learning(task, envs, config, steps))
    used = versions("dqnrec-lite", "tensorflow", "keras", "numpy", "gymnasium")
    write(ROOT / "_build/bench/bench.json", {"versions": used, "rows": rows})
    print("\nStored in _build/bench/bench.json.")
    if rows[0]["median"] < REQUIRED:
        print(f"Too slow: {REQUIRED:,} pages a second are required.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
