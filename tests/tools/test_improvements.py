"""The arithmetic of the factorial, against regressions and a simulation."""

import numpy as np
import pytest
from scipy import stats

from dqnrec_lite import DQNConfig
from dqnrec_lite.studies import defaults, improvements, study
from dqnrec_lite.studies.__main__ import main
from dqnrec_lite.studies.defaults import Candidate
from dqnrec_lite.studies.improvements import CELLS, CHOSEN, SWITCHES, effects, gains, holm
from dqnrec_lite.studies.worlds import TUNING, WORLDS


def made(**sizes: float) -> np.ndarray:
    """Scores of 10 seeds: noise of 0.01, a level a seed, and effects of these sizes."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(10, 1)) + 0.01 * rng.normal(size=(10, 16))
    for column, name in enumerate(CELLS):
        on = name.split(", ")
        for switches, size in sizes.items():
            sign = np.prod(
                [1.0 if s.replace("_", " ") in on else -1.0 for s in switches.split("__")]
            )
            scores[:, column] += sign * size / 2
    return scores


def test_the_cells_are_all_combinations_each_once():
    assert len(CELLS) == 16
    assert len({tuple(sorted(cell.items(), key=str)) for cell in CELLS.values()}) == 16
    assert CELLS["none"] == {"double": False, "dueling": False, "n_step": 1, "prioritised": None}
    assert CELLS["double, 3 steps"]["n_step"] == 3


def test_effects_are_found_and_the_luck_of_a_seed_is_not_one():
    found = effects(made(double=0.5, **{"3_steps": -0.3}, double__dueling=0.2), matters=0.1)
    assert len(found) == 15
    for name, size in [("double", 0.5), ("3 steps", -0.3), ("double x dueling", 0.2)]:
        assert found[name].mean == pytest.approx(size, abs=0.02), name
        assert (
            found[name].interval[0] < size < found[name].interval[1]
            or abs(found[name].mean - size) < 0.01
        )
        assert found[name].verdict == ("helps" if size > 0 else "hurts")
    assert {found[name].verdict for name in ("dueling", "prioritised")} == {"small"}


def test_a_main_effect_is_the_difference_of_two_means():
    scores = np.random.default_rng(1).normal(size=(10, 16))
    on = [", 3 steps" in f", {name}" for name in CELLS]
    theirs = scores[:, on].mean() - scores[:, np.logical_not(on)].mean()
    assert effects(scores, 0.1)["3 steps"].mean == pytest.approx(theirs)
    assert list(effects(scores, 0.1))[: len(SWITCHES)] == list(SWITCHES)


def test_holm_corrects_as_by_hand_and_keeps_the_family_wise_error():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(1000):
        p = stats.ttest_1samp(rng.normal(size=(10, 15)), 0.0).pvalue
        wrong += min(holm(p)) < 0.05
    assert 0.03 < wrong / 1000 < 0.07


@pytest.mark.parametrize("world", CHOSEN)
def test_the_cell_that_settings_are_tried_against_was_best_on_the_tuning_seeds(world):
    rows = study.rows(f"improvements_{world}")
    scores = {
        cell: np.mean(
            [
                row["figures"]["score"]
                for row in rows
                if row["method"] == cell and row["seed"] in TUNING
            ]
        )
        for cell in CELLS
    }
    assert max(scores, key=scores.__getitem__) == CHOSEN[world]


def test_gains_are_paired_over_seeds_and_corrected_over_the_family():
    rng = np.random.default_rng(3)
    base = rng.normal(size=10)
    tried = {"better": base + 0.2, "as good": base.copy(), "luckier": rng.normal(size=10)}
    tried["better"] += 0.01 * rng.normal(size=10)
    found = gains(base, tried, matters=0.1)
    assert found["better"].mean == pytest.approx(0.2, abs=0.02)
    alone = stats.ttest_rel(tried["better"], base).pvalue
    assert found["better"].p == pytest.approx(3 * alone)
    verdicts = {name: effect.verdict for name, effect in found.items()}
    assert verdicts == {"better": "helps", "as good": "small", "luckier": "undecided"}


def test_every_world_of_the_studies_makes_its_settings():
    for each in improvements.STUDIES:
        for method in each.methods:
            assert each.settings(method, 0)["total_steps"] == each.steps


def test_the_rule_takes_the_smallest_worst_regret_and_the_plainest_of_equals():
    slow, double, quick = (
        Candidate(False, 1, 1e-3),
        Candidate(True, 1, 1e-3),
        Candidate(False, 4, 2.5e-3),
    )

    def chosen(*worst: float) -> Candidate:
        """Of the three, with these worst regrets, counted in CartPole's differences of 25."""
        names = [one.name for one in (slow, double, quick)]
        poles = {name: 500.0 - 25.0 * regret for name, regret in zip(names, worst, strict=True)}
        ruler = {"unreached": 500.0} | poles
        return defaults.choose({"shop": dict.fromkeys(names, 9.0), "cartpole": ruler})

    assert chosen(2.0, 1.0, 3.0) == double
    assert chosen(1.5, 1.0, 1.2) == slow
    assert chosen(1.6, 1.0, 1.4) == quick  # more copies before Double DQN


def test_regret_is_counted_in_differences_that_matter_and_the_best_go_on():
    names = [one.name for one in defaults.CANDIDATES]
    scores = {"shop": dict.fromkeys(names, 9.0), "cartpole": dict.fromkeys(names, 400.0)}
    scores["shop"][names[-1]] = 9.3
    scores["cartpole"] |= dict.fromkeys(names[:3], 500.0)
    found = defaults.regrets(scores)
    assert found[names[-1]] == pytest.approx({"shop": 0.0, "cartpole": 4.0})
    assert found[names[0]] == pytest.approx({"shop": 2.0, "cartpole": 0.0})
    assert [one.name for one in defaults.finalists(scores)][:3] == names[:3]
    assert len(defaults.finalists(scores)) == defaults.NUM_FINALISTS


def test_the_defaults_are_what_the_rule_says_of_the_stored_rows():
    assert defaults.finalists(defaults.mean_scores(defaults.FIRST)) == defaults.FINALISTS
    chosen, config = defaults.choose(defaults.mean_scores()), DQNConfig()
    assert (chosen.double, chosen.learning_rate) == (config.double, config.learning_rate)
    for name, value in defaults.SHARED.items():
        assert getattr(config, name) == value
    for world in (*defaults.FIRST, *defaults.OTHERS):
        own = {**defaults.SHARED, **WORLDS[world].settings}
        updates = own["updates_per_transition"] * WORLDS[world].total_steps
        discount = own.get("discount", config.discount)
        every = DQNConfig(discount=discount).sync_every(updates)
        assert every == chosen.changes(world)["target_sync_every"]


def test_a_study_whose_rows_are_not_made_yet_cannot_be_verified(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(study, "ROWS", tmp_path)
    with pytest.raises(SystemExit):
        main(["verify", "improvements_shop"])
    assert "no rows are stored yet of improvements_shop: make them first" in capsys.readouterr().err
