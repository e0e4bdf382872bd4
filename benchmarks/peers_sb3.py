"""Stable-Baselines3's DQN beside ours: standard tasks and the Shop, settings equal, one machine.

    python benchmarks/peers_sb3.py PATH [--seeds 10]

writes rows as `dqnrec_lite.studies` does, one a run, to PATH. It can be stopped and goes on
where it was. Needs what `requirements-peers.txt` lists; `make bench-peers` sees to that.

What cannot be set equal: Stable-Baselines3 has no Double DQN (so ours runs without it too), throws
one die a step for all sessions where ours throws one for each, draws first weights from another
distribution, and makes its updates 4 by 4 and acts by the newest weights, where ours makes them 32
by 32 and acts by weights that lack the last 32 to 64. Its loss is Huber and cannot be chosen; for
"mse" the function that it calls is replaced.
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
from dqnrec_lite.studies.shop import CUSTOMERS, customer_seed, shop_config
from dqnrec_lite.studies.study import SEEDS, Outcome, Study, make_rows, settings_of, store
from dqnrec_lite.studies.tasks import LANES, POINT_EPISODES, POINTS, TASKS, judging_seed

# Two of each: the loss is part of the settings. Ours also with the first weights of theirs.
OURS, OURS_HUBER = "ours, mse", "ours, huber"
THEIR_WEIGHTS = ", their first weights"
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
            seed, loss=loss, double=False, updates_per_transition=share, learning_rate=1e-3,
            target_sync_every=500, epsilon_fraction=0.1,
        )  # fmt: skip
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
    if study in TASKS:
        weights = their_weights(study, config) if method.endswith(THEIR_WEIGHTS) else None
        return TASKS[study].train(config, weights)
    envs = make_shop(SHOP_LANES, seed=seed)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    start = time.perf_counter()
    agent.learn(envs, SHOP_STEPS)
    seconds = time.perf_counter() - start
    return Outcome(seconds, shop_figures(agent.predict, seed), None)


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
        methods += [OURS_HUBER, HUBER, OURS + THEIR_WEIGHTS, OURS_HUBER + THEIR_WEIGHTS]
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
