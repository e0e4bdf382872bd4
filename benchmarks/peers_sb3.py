"""Stable-Baselines3's DQN beside ours: standard tasks and the Shop, settings equal, one machine.

    python benchmarks/peers_sb3.py PATH [--seeds 10]

writes rows as `dqnrec_lite.studies` does, one a run, to PATH. It can be stopped and goes on
where it was. Needs what `requirements-peers.txt` lists; `make bench-peers` sees to that.

What cannot be set equal: Stable-Baselines3 has no Double DQN (so ours runs without it too), draws
first weights from another distribution, throws one die a step for all sessions where ours throws
one for each (and explores alone until learning starts), and makes its updates 4 by 4 and acts by
the newest weights, where ours makes them 32 by 32 and acts by weights that lack the last 32 to 64.
`LADDER` exchanges these three parts of ours for theirs, one after another. Batches are drawn
uniformly with replacement by both, and both copy into the target network after as many updates.
Its loss is Huber and cannot be chosen; for "mse" the function that it calls is replaced.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3.dqn.dqn as sb3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env

from dqnrec_lite import DQN, DQNConfig, evaluate, make_shop, seed_everything
from dqnrec_lite.networks import sync
from dqnrec_lite.nstep import NStepWindow
from dqnrec_lite.sessions import Sessions
from dqnrec_lite.studies.shop import CUSTOMERS, customer_seed, shop_config
from dqnrec_lite.studies.study import SEEDS, Outcome, Study, make_rows, settings_of, store
from dqnrec_lite.studies.tasks import LANES, POINT_EPISODES, POINTS, TASKS, judging_seed

# Two of each: the loss is part of the settings.
OURS, OURS_HUBER = "ours, mse", "ours, huber"
# Parts of theirs that ours takes over; each rung keeps those before it.
LADDER = THEIR_WEIGHTS, ONE_DIE, MOMENTS = (
    ", their first weights", ", their one die too", ", their moments too"
)  # fmt: skip
MSE, HUBER = "Stable-Baselines3, mse", "Stable-Baselines3, huber"
# CartPole's settings and seeds as they were when theirs was run, which takes more than an hour.
POLE = {"hidden_sizes": (128, 128), "dueling": False, "batch_size": 256}
POLE_SEEDS = range(1100, 1110)
SHOP, SHOP_LANES, SHOP_STEPS, SHOP_UPDATES = "dqnrec_lite/Shop-v0", 256, 500_000, 5
LOSSES = {MSE: lambda q, target: 0.5 * torch.mean((q - target) ** 2),
          HUBER: torch.nn.functional.smooth_l1_loss}  # fmt: skip


def config_of(study: str, method: str, seed: int) -> DQNConfig:
    """The settings, of ours and of theirs."""
    loss = method.split(", ")[1]
    if study == "shop":
        share = SHOP_UPDATES / SHOP_LANES
        return shop_config(  # as they were when theirs was run
            seed, loss=loss, updates_per_transition=share, learning_rate=1e-3, target_sync_every=500
        )
    changes = POLE if study == "cartpole" else {}
    return replace(TASKS[study].config("DQN", seed), loss=loss, double=False, **changes)


def size_of(study: str) -> tuple[str, int, int]:
    """Environment, transitions, sessions side by side."""
    if study == "shop":
        return SHOP, SHOP_STEPS, SHOP_LANES
    return TASKS[study].environment, TASKS[study].total_steps, LANES


def their_agent(study: str, config: DQNConfig) -> sb3.DQN:
    """Stable-Baselines3's DQN with our settings."""
    name, _, lanes = size_of(study)
    start, end = config.learning_rate, config.learning_rate_end
    steps = round(lanes * config.updates_per_transition)
    assert steps == lanes * config.updates_per_transition, "updates must come out whole"
    calls = config.target_sync_every / steps  # between two copies
    return sb3.DQN(
        "MlpPolicy",
        make_vec_env(name, n_envs=lanes, seed=config.seed),
        learning_rate=lambda left: end + left * (start - end),
        buffer_size=config.buffer_size,
        learning_starts=config.learning_starts,
        batch_size=config.batch_size,
        gamma=config.discount,
        n_steps=config.n_step,
        train_freq=1,  # steps of all sessions
        gradient_steps=steps,
        target_update_interval=round(calls) * lanes,
        exploration_fraction=config.epsilon_fraction,
        exploration_initial_eps=config.epsilon_start,
        exploration_final_eps=config.epsilon_end,
        max_grad_norm=float("inf"),
        policy_kwargs={
            "net_arch": list(config.hidden_sizes),
            "optimizer_kwargs": {"eps": 1e-7},  # as Keras
        },
        seed=config.seed,
        device="cpu",
    )


def their_weights(study: str, config: DQNConfig) -> list[np.ndarray]:
    """The first weights of `their_agent` as Keras wants them: kernels the other way round."""
    return [p.detach().numpy().T.copy() for p in their_agent(study, config).q_net.parameters()]


class Watch(BaseCallback):
    """Looks at the greedy policy at each tenth of the training; `seconds` it took."""

    def __init__(self, name: str, total_steps: int, seed: int) -> None:
        super().__init__()
        self.envs = gym.make_vec(name, num_envs=POINT_EPISODES)
        self.due = [total_steps * i // POINTS for i in range(1, POINTS)]
        self.test_seed, self.greedy, self.seconds = judging_seed(seed), [], 0.0

    def look(self) -> None:
        start = time.perf_counter()
        policy = greedy_policy(self.model)
        self.greedy.append(evaluate(policy, self.envs, POINT_EPISODES, self.test_seed).mean)
        self.seconds += time.perf_counter() - start

    def _on_step(self) -> bool:
        if self.due and self.num_timesteps >= self.due[0]:
            self.due.pop(0)
            self.look()
        return True


def greedy_policy(agent: sb3.DQN) -> Any:
    return lambda observations: agent.predict(observations, deterministic=True)[0]


def run_theirs(study: str, method: str, seed: int) -> Outcome:
    name, total_steps, _ = size_of(study)
    sb3.F = SimpleNamespace(smooth_l1_loss=LOSSES[method])
    agent = their_agent(study, config_of(study, method, seed))
    watch = Watch(name, total_steps, seed) if study in TASKS else None
    start = time.perf_counter()
    agent.learn(total_steps, callback=watch)
    seconds = time.perf_counter() - start
    if watch is None:
        return Outcome(seconds, shop_figures(greedy_policy(agent), seed), None)
    seconds -= watch.seconds
    watch.look()

    def q_values(observations: Any) -> Any:
        with torch.no_grad():
            return agent.q_net(torch.as_tensor(observations)).numpy()

    figures = TASKS[study].judge(greedy_policy(agent), q_values, seed)
    return Outcome(seconds, figures | {"greedy": watch.greedy}, None)


def run_ours(study: str, method: str, seed: int) -> Outcome:
    config = config_of(study, method, seed)
    if study in TASKS and not method.endswith((ONE_DIE, MOMENTS)):
        weights = their_weights(study, config) if method.endswith(THEIR_WEIGHTS) else None
        return TASKS[study].train(config, weights)
    name, total_steps, lanes = size_of(study)
    envs = make_shop(lanes, seed=seed) if study == "shop" else gym.make_vec(name, num_envs=lanes)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    if method.endswith(LADDER):
        agent.set_weights(their_weights(study, config))
    start = time.perf_counter()
    if method.endswith((ONE_DIE, MOMENTS)):
        learn_as_they_do(agent, envs, total_steps, moments=method.endswith(MOMENTS))
    else:
        agent.learn(envs, total_steps)
    seconds = time.perf_counter() - start
    if study == "shop":
        return Outcome(seconds, shop_figures(agent.predict, seed), None)
    return Outcome(seconds, TASKS[study].judge(agent.predict, agent.q_values, seed), None)


def learn_as_they_do(agent: DQN, envs: Any, total_steps: int, *, moments: bool) -> None:
    """`DQN.learn`, plainly, with one die a step, and random actions until learning starts.

    Args:
        moments: make the updates that a step earns right after it, and act by the newest weights;
            else 32 by 32, and act by the weights before the last 32, as ours does.
    """
    config, sessions = agent.config, Sessions(envs)
    window = NStepWindow(config.n_step, config.discount)
    block = round(sessions.num_envs * config.updates_per_transition) if moments else 32
    every, done, owed = config.sync_every(config.updates_per_transition * total_steps), 0, 0.0
    sessions.reset(seed=config.seed)
    while done < total_steps:
        progress, warm = done / total_steps, len(agent.replay) >= config.learning_starts
        explores = agent.rng.random() < agent.epsilon(progress) if warm else True
        observation = sessions.observations
        action = agent.act(observation, float(explores), None)
        step = sessions.step(action)
        agent.replay.add(window.push(observation, action, step))
        new = int(step.valid.sum())
        done += new
        owed += new * config.updates_per_transition if warm else 0.0
        while owed >= block:
            if not moments:
                sync(agent.actor, agent.q_network)
            rate = agent.learning_rate(progress)
            agent.updater.run(agent.sample(block), agent.updates, rate, every)
            agent.updates, owed = agent.updates + block, owed - block
            if moments:
                sync(agent.actor, agent.q_network)
    sync(agent.actor, agent.q_network)


def shop_figures(policy: Any, seed: int) -> dict[str, float]:
    customers = make_shop(1000, seed=customer_seed(seed))
    return {"return": evaluate(policy, customers, CUSTOMERS).mean}


def run_checks() -> Outcome:
    """Their `check_env` on our Shop, with every warning a fault; and what machine this is."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(gym.make(SHOP).unwrapped)
        check_env(gym.make(SHOP))
    figures: dict[str, Any] = {
        "check_env warnings": [str(warning.message) for warning in caught],
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
    }
    return Outcome(time.perf_counter() - start, figures, None)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def packages() -> dict[str, Any]:
    return {name: version(name) for name in ("torch", "stable-baselines3", "gymnasium")}


class Machine(Study):
    """What machine this is, and whether their checks find a fault in our Shop."""

    def settings(self, method: str, seed: int) -> dict[str, Any]:
        return packages()

    def run(self, method: str, seed: int) -> Outcome:
        return run_checks()


class Peers(Study):
    """One task, by theirs and by ours."""

    def settings(self, method: str, seed: int) -> dict[str, Any]:
        environment, steps, lanes = size_of(self.name)
        made = packages() | settings_of(config_of(self.name, method, seed))
        return made | {"environment": environment, "total_steps": steps, "num_envs": lanes}

    def run(self, method: str, seed: int) -> Outcome:
        return (run_ours if method.startswith("ours") else run_theirs)(self.name, method, seed)


def peers(study: str, seeds: int) -> Peers:
    methods, chosen = [OURS, MSE], POLE_SEEDS if study == "cartpole" else SEEDS
    if study == "cartpole":
        methods += [OURS_HUBER, HUBER, OURS + THEIR_WEIGHTS]
    apart = {"cartpole": OURS_HUBER, "mountaincar": OURS}  # where ours and theirs end apart
    if study in apart:
        methods += [apart[study] + rung for rung in LADDER]
    return Peers(name=study, methods=dict.fromkeys(methods), seeds=chosen[:seeds])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="where the rows go")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each kind")
    parser.add_argument("study", nargs="*", help="some of cartpole, acrobot, ...; none: all")
    options = parser.parse_intermixed_args()
    seed_everything(0)
    torch.set_num_threads(1)
    partial, rows = options.path.with_suffix(".partial"), []
    chosen = options.study or [*TASKS, "shop"]
    for study in (
        Machine(name="machine", methods={"check_env": None}, seeds=[0]),
        *(peers(name, options.seeds) for name in chosen),
    ):
        rows += make_rows(study, study.runs(), partial)
    store(rows, options.path)
    partial.unlink()
    print(f"{options.path}: {len(rows)} rows.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
