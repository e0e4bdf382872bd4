"""Figures show every number that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from dqnrec_lite.curve import LearningCurve
from dqnrec_lite.plotting import plot_intervals, plot_learning_curve


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize(
    "intervals",
    [
        {"MountainCar": (-146.0, -160.0, -130.0), "Acrobot": (-78.0, -80.0, -75.0)},
        {"a lead": (0.4, -0.1, 0.9)},
        {"euro": (9.0, 8.5, 9.5), "less": (2.0, 1.0, 3.0)},
    ],
    ids=["all below 0", "across 0", "all above 0"],
)
def test_intervals_lie_inside_the_axis_which_runs_from_left_to_right(intervals):
    left, right = plot_intervals(intervals)[1].get_xlim()
    numbers = [number for interval in intervals.values() for number in interval]
    assert left < min(numbers) <= max(numbers) < right
    assert left == 0 or min(numbers) < 0


def test_levels_below_0_are_inside_the_axis_of_a_learning_curve():
    column = np.linspace(-200.0, -100.0, 5)
    curve = LearningCurve(*[column] * len(LearningCurve._fields))
    curve = curve._replace(transitions=np.arange(1, 6) * 1000)
    low, high = plot_learning_curve(curve, {"random": -499.0, "solved": -80.0})[1].get_ylim()
    assert low <= -499 < -80 < high
