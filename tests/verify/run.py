"""Long studies behind the book's figures: `make verify` runs them and stores what comes out.

Training seeds 1000 to 1009; customers of seed 2000, the same for every policy. The settings were
chosen on seeds 0 to 99. `make test` checks the stored figures and runs part of them again.
"""

import json
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dqnrec_lite import DQN, DQNConfig, PocketShop, evaluate, make_shop
from dqnrec_lite import policy_value, value_iteration
from dqnrec_lite.baselines import (
    attentive_policy,
    best_fixed_rule,
    fixed_policy,
    most_popular_item,
    random_policy,
    train_linucb,
    train_myopic,
)
from dqnrec_lite.evaluation import Policy, confidence_interval
from dqnrec_lite.oracle import oracle_policy, solve_oracle
from dqnrec_lite.shop import NUM_ITEMS

RESULTS = Path(__file__).with_name("results.json")
SEEDS = range(1000, 1010)
CUSTOMERS, CUSTOMER_SEED = 4000, 2000
SHOP_STEPS, SHOP_LANES = 2_000_000, 256
POCKET_STEPS, POCKET_LANES = 3_000_000, 1024


def shop_config(seed: int) -> DQNConfig:
    """Settings of the Shop's DQN, as in the quickstart."""
    return DQNConfig(seed=seed, updates_per_transition=0.02, buffer_size=500_000)


def pocket_config(seed: int) -> DQNConfig:
    """Settings that learn PocketShop's values as well as its policy: much data, much exploring."""
    return DQNConfig(
        seed=seed,
        discount=0.95,
        hidden_sizes=(64, 64),
        batch_size=512,
        buffer_size=2_000_000,
        updates_per_transition=0.01,
        target_sync_every=150,
        epsilon_end=0.5,
        learning_rate_end=0.0,
    )


def shop_returns(policy: Policy) -> np.ndarray:
    """Return of each of the customers that every policy meets."""
    return evaluate(policy, make_shop(1000, CUSTOMER_SEED), CUSTOMERS).returns


def shop_seed(seed: int) -> dict[str, float]:
    """Mean returns of the agents that are trained, for one training seed."""
    envs = make_shop(SHOP_LANES, seed)
    agent = DQN(envs.single_observation_space, envs.single_action_space, shop_config(seed))
    start = time.perf_counter()
    agent.learn(envs, SHOP_STEPS)
    seconds = time.perf_counter() - start
    myopic = train_myopic(envs, SHOP_STEPS // 2, shop_config(seed))
    linucb = train_linucb(envs, 200_000, seed=seed)
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "DQN": float(shop_returns(agent.predict).mean()),
        "myopic DQN": float(shop_returns(myopic.predict).mean()),
        "LinUCB": float(shop_returns(linucb).mean()),
        "random": float(shop_returns(random_policy(NUM_ITEMS, seed)).mean()),
    }


def pocket_seed(seed: int) -> dict[str, float]:
    """How close the network's policy and values come to the exact ones, for one seed."""
    shop, config = PocketShop(), pocket_config(seed)
    best = value_iteration(shop, config.discount)
    envs = shop.vector(POCKET_LANES, seed)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    start = time.perf_counter()
    agent.learn(envs, POCKET_STEPS)
    seconds = time.perf_counter() - start
    q = agent.q_values(shop.mdp.observations)
    value = policy_value(shop, q.argmax(axis=1), config.discount)
    v, seen = best.max(axis=1), shop.mdp.reachable
    error = np.abs(q.max(axis=1) - v)[seen].max() / np.ptp(v[seen])
    share = float(shop.mdp.start @ value / (shop.mdp.start @ v))
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "share of optimum": share,
        "largest error over range": float(error),
    }


def main() -> None:
    rows = {}
    for name, study in (("shop", shop_seed), ("pocket", pocket_seed)):
        rows[name] = []
        for seed in SEEDS:
            rows[name].append(study(seed))
            print(name, rows[name][-1], flush=True)
    rule = best_fixed_rule()
    envs = make_shop(1000, CUSTOMER_SEED)
    items, ceiling = solve_oracle()
    rest = {
        "popular": fixed_policy([most_popular_item(make_shop(1000))]),
        "best fixed rule": fixed_policy(rule),
        "attentive rule": attentive_policy(),
        "oracle": oracle_policy(envs, items),
    }
    fixed = {}
    for name, policy in rest.items():
        score = evaluate(policy, envs, CUSTOMERS)
        fixed[name] = {"mean": score.mean, "ci": score.ci}
        print(name, fixed[name], flush=True)
    trained = {}
    for name in ("random", "myopic DQN", "LinUCB", "DQN"):
        means = np.array([row[name] for row in rows["shop"]])
        trained[name] = {"mean": float(means.mean()), "ci": confidence_interval(means)}
        print(name, trained[name], flush=True)
    means = np.array([row["DQN"] for row in rows["shop"]])
    lead = means - fixed["attentive rule"]["mean"]
    result = {
        "made by": f"make verify, Python {platform.python_version()}, NumPy {np.__version__}",
        "settings": {
            "shop": asdict(shop_config(0)) | {"total_steps": SHOP_STEPS, "num_envs": SHOP_LANES},
            "pocket": asdict(pocket_config(0)) | {"total_steps": POCKET_STEPS},
            "customers": CUSTOMERS,
            "customer seed": CUSTOMER_SEED,
        },
        "fixed rule": rule,
        "oracle, exact": ceiling,
        "shop": rows["shop"],
        "pocket": rows["pocket"],
        "policies": fixed | trained,
        "lead over attentive rule": {"mean": lead.mean(), "ci": confidence_interval(lead)},
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(result["lead over attentive rule"])
    print(f"Stored in {RESULTS.relative_to(Path.cwd())}.")


if __name__ == "__main__":
    sys.exit(main())
