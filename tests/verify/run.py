"""Long studies behind the book's figures: `make verify` runs them and stores what comes out.

Training seeds 1000 to 1009, customers of seeds 2000 to 2009, the same 4,000 for every policy of one
training seed. So an interval over the ten covers the luck of training and that of the customers.
The settings, the hand-written rule and the fixed rule were chosen on seeds 0 to 99. `make test`
checks the stored figures and makes part of them again.
"""

import json
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dqnrec_lite import (
    DQN,
    DQNConfig,
    PocketShop,
    evaluate,
    make_shop,
    policy_value,
    value_iteration,
)
from dqnrec_lite.baselines import (
    attentive_policy,
    best_fixed_rule,
    fixed_policy,
    most_popular_item,
    random_policy,
    train_linucb,
    train_myopic,
)
from dqnrec_lite.evaluation import confidence_interval
from dqnrec_lite.oracle import oracle_policy, solve_oracle
from dqnrec_lite.shop import NUM_ITEMS

RESULTS = Path(__file__).with_name("results.json")
SEEDS = range(1000, 1010)
CUSTOMERS, CUSTOMER_SEED = 4000, 2000
SHOP_STEPS, SHOP_LANES = 2_000_000, 256
POCKET_STEPS, POCKET_LANES = 4_000_000, 1024
FIXED_RULE = best_fixed_rule()
ORACLE_ITEMS, ORACLE_VALUE = solve_oracle()


def shop_config(seed: int) -> DQNConfig:
    """Settings of the Shop's DQN: the quickstart's, trained twice as long."""
    return DQNConfig(seed=seed, updates_per_transition=0.02, buffer_size=500_000)


def pocket_config(seed: int) -> DQNConfig:
    """Settings that learn PocketShop's values as well as its policy: much data, much exploring."""
    return DQNConfig(
        seed=seed,
        discount=0.95,
        hidden_sizes=(64, 64),
        batch_size=512,
        buffer_size=3_000_000,
        updates_per_transition=0.0075,
        target_sync_every=150,
        epsilon_end=0.8,
        learning_rate_end=0.0,
    )


def shop_seed(seed: int) -> dict[str, float]:
    """Mean return of every policy on the customers of one seed, after one training each."""
    envs = make_shop(SHOP_LANES, seed)
    agent = DQN(envs.single_observation_space, envs.single_action_space, shop_config(seed))
    start = time.perf_counter()
    agent.learn(envs, SHOP_STEPS)
    seconds = time.perf_counter() - start
    customers = make_shop(1000, seed + CUSTOMER_SEED - SEEDS[0])
    policies = {
        "popular": fixed_policy([most_popular_item(make_shop(1000))]),
        "random": random_policy(NUM_ITEMS, seed),
        "myopic DQN": train_myopic(envs, SHOP_STEPS // 2, shop_config(seed)).predict,
        "LinUCB": train_linucb(envs, 200_000, seed=seed),
        "best fixed rule": fixed_policy(FIXED_RULE),
        "attentive rule": attentive_policy(),
        "DQN": agent.predict,
        "oracle": oracle_policy(customers, ORACLE_ITEMS),
    }
    means = {n: evaluate(policy, customers, CUSTOMERS).mean for n, policy in policies.items()}
    return {"seed": seed, "seconds": round(seconds, 1), **means}


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
    rows: dict[str, list[dict[str, float]]] = {"shop": [], "pocket": []}
    for name, study in (("shop", shop_seed), ("pocket", pocket_seed)):
        for seed in SEEDS:
            rows[name].append(study(seed))
            print(name, rows[name][-1], flush=True)

    def over_seeds(values: list[float]) -> dict[str, object]:
        return {"mean": float(np.mean(values)), "ci": confidence_interval(np.array(values))}

    names = [name for name in rows["shop"][0] if name not in ("seed", "seconds")]
    result = {
        "made by": f"make verify, Python {platform.python_version()}, NumPy {np.__version__}",
        "settings": {
            "shop": asdict(shop_config(0)) | {"total_steps": SHOP_STEPS, "num_envs": SHOP_LANES},
            "pocket": asdict(pocket_config(0))
            | {"total_steps": POCKET_STEPS, "num_envs": POCKET_LANES},
            "customers": CUSTOMERS,
            "customer seed": CUSTOMER_SEED,
        },
        "fixed rule": FIXED_RULE,
        "oracle, exact": ORACLE_VALUE,
        **rows,
        "policies": {name: over_seeds([row[name] for row in rows["shop"]]) for name in names},
        "lead of DQN": {
            name: over_seeds([row["DQN"] - row[name] for row in rows["shop"]])
            for name in names
            if name != "DQN"
        },
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(f"Stored in {RESULTS.relative_to(Path.cwd())}.")


if __name__ == "__main__":
    sys.exit(main())
