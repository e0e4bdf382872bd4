"""What a DQN must beat on the Shop: rules, a filter, a bandit, a table."""

from dqnrec_lite.baselines.item_to_item import item_to_item_policy
from dqnrec_lite.baselines.linucb import train_linucb
from dqnrec_lite.baselines.q_table import train_tabular
from dqnrec_lite.baselines.rules import (
    attentive_policy,
    best_fixed_rule,
    fixed_policy,
    fixed_rules,
    most_popular_item,
    random_policy,
)

__all__ = [
    "attentive_policy",
    "best_fixed_rule",
    "fixed_policy",
    "fixed_rules",
    "item_to_item_policy",
    "most_popular_item",
    "random_policy",
    "train_linucb",
    "train_tabular",
]
