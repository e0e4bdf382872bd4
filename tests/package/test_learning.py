"""The book's promise for one training seed. `make verify` keeps such for ten, and more of them."""

from dqnrec_lite import seed_everything
from dqnrec_lite.studies import pocket

seed_everything(0)


def test_pocketshop_is_learnt_to_99_percent_of_the_optimum_and_5_percent_of_the_values_range():
    outcome = pocket.STUDY.run("DQN", 1000)
    assert outcome.figures["share of optimum"] >= 0.99, outcome.figures
    assert outcome.figures["largest error over range"] <= 0.05, outcome.figures
    assert outcome.seconds < 150, "at most 30 s on two free cores; this one may be busy"
