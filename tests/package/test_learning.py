"""The book's promises for one training seed. `make experiments` keeps them for ten."""

import pytest

from dqnrec_lite import seed_everything, studies
from dqnrec_lite.studies import loss, pocket

seed_everything(0)


def test_pocketshop_is_learnt_to_99_percent_of_the_optimum_and_5_percent_of_the_values_range():
    outcome = pocket.STUDY.run("DQN", 1000)
    assert outcome.figures["share of optimum"] >= 0.99, outcome.figures
    assert outcome.figures["largest error over range"] <= 0.05, outcome.figures
    assert outcome.seconds < 150, "at most 30 s on two free cores; this one may be busy"


@pytest.mark.parametrize("method", ["mse", "huber"])
def test_the_values_of_the_pole_come_out_again_with_either_loss(method):
    stored = studies.rows("loss", method)[0]
    outcome = loss.STUDY.run(method, stored["seed"])
    largest = outcome.figures["largest q"]
    assert largest == pytest.approx(stored["figures"]["largest q"], rel=0.2), outcome.figures
