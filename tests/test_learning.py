"""The book's promise on PocketShop, for one training seed. `make verify` keeps it for ten."""

import importlib.util
from pathlib import Path

import pytest


def load_study():
    """tests/verify/run.py as a module, without its search over 768 rules."""
    path = Path(__file__).parent / "verify" / "run.py"
    spec = importlib.util.spec_from_file_location("verify_run", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dqnrec_lite.baselines.best_fixed_rule", lambda: None)
        spec.loader.exec_module(module)
    return module


def test_pocketshop_is_learnt_to_99_percent_of_the_optimum_and_5_percent_of_the_values_range():
    row = load_study().pocket_seed(1000)
    assert row["share of optimum"] >= 0.99, row
    assert row["largest error over range"] <= 0.05, row
    assert row["seconds"] < 150, "at most 30 s on two free cores; this one may be busy"
