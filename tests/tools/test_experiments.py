"""The stored figures of the long studies: they are what was promised, and parts come out again."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dqnrec_lite import DQN, evaluate, experiments, make_shop, standard, studies
from dqnrec_lite.baselines import attentive_policy, fixed_policy, fixed_rules, most_popular_item
from dqnrec_lite.curve import LearningCurve
from dqnrec_lite.envs.oracle import oracle_policy, solve_oracle
from dqnrec_lite.evaluation import confidence_interval
from dqnrec_lite.experiments import differences, experiment_rows, make_rows, read_rows, store
from dqnrec_lite.logs.records import record_sessions
from dqnrec_lite.standard import standard_config
from dqnrec_lite.studies import (
    FRESH_SEEDS,
    SEEDS,
    STUDIES,
    Outcome,
    seeds_of,
    session_figures,
    settings,
)

REPEATED = ("popular", "best fixed rule", "attentive rule", "oracle")


def stored_methods(study: str) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in experiment_rows(study)))


@pytest.fixture(scope="module")
def oracle() -> tuple[np.ndarray, float]:
    return solve_oracle()


def column(study: str, method: str, figure: str) -> np.ndarray:
    return np.array([row["figures"][figure] for row in experiment_rows(study, method)])


# --- What is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("study", ["shop", "pocket"])
def test_each_method_has_at_least_ten_seeds_none_of_them_used_for_tuning(study):
    assert set(stored_methods(study)) <= set(STUDIES[study])
    assert "DQN" in stored_methods(study)
    for method in stored_methods(study):
        assert [row["seed"] for row in experiment_rows(study, method)] == list(SEEDS)
    assert len(set(SEEDS)) >= 10
    assert min(*SEEDS, *FRESH_SEEDS) >= 1000


def test_the_settings_are_those_that_the_studies_would_use_today():
    for row in read_rows(experiments.STORED):
        assert row["config"] == settings(row["study"], row["method"], row["seed"])


def test_pocketshop_is_learnt_for_every_seed_and_in_time():
    for row in experiment_rows("pocket", "DQN"):
        assert 0.99 <= row["figures"]["share of optimum"] <= 1 + 1e-6, row
        assert row["figures"]["largest error over range"] <= 0.05, row
        assert row["seconds"] <= 30, row


def test_the_dqn_beats_every_baseline_with_an_interval_clear_of_0_and_in_time():
    ours = column("shop", "DQN", "return")
    others = set(stored_methods("shop")) - {"DQN", "oracle"}
    assert len(others) >= 6
    for method in others:
        lead = ours - column("shop", method, "return")
        assert confidence_interval(lead)[0] > 0, f"no clear lead over {method}"
    assert max(row["seconds"] for row in experiment_rows("shop", "DQN")) <= 60
    assert (column("shop", "oracle", "return") > ours).all()


def test_with_huber_loss_the_values_of_the_pole_run_away_unless_syncs_are_rare():
    assert stored_methods("loss") == list(STUDIES["loss"])
    for method in STUDIES["loss"]:
        assert [row["seed"] for row in experiment_rows("loss", method)] == list(SEEDS)
    bound = 1 / (1 - standard.pole_config(0).discount)
    assert (column("loss", "mse", "largest q") < bound).all()
    assert (column("loss", "huber", "largest q") > 10_000 * bound).all()
    for method in ("huber, rare syncs", "huber, one update a step"):  # q settles between syncs
        assert (column("loss", method, "largest q") < 2 * bound).all()


@pytest.mark.parametrize("study", standard.TASKS)
def test_the_standard_tasks_have_ten_seeds_each_and_learn_what_they_must(study):
    task = standard.TASKS[study]
    for method in standard.STANDARD_METHODS[study]:
        rows = experiment_rows(study, method)
        assert [row["seed"] for row in rows] == list(seeds_of(study))
        for row in rows:
            figures, curve = row["figures"], row["curve"]
            assert figures["lowest"] <= figures["return"] <= figures["highest"]
            assert len(figures["greedy"]) == standard.POINTS
            assert task.total_steps <= curve["transitions"][-1] < task.total_steps + standard.LANES
    if task.required is not None:
        passed = column(study, "DQN", "return") >= task.required
        assert passed.sum() >= 9, passed


def test_a_pole_is_balanced_again_as_the_stored_row_says():
    row = experiment_rows("cartpole", "DQN")[0]
    seconds, figures, curve = standard.run_task(
        "cartpole", standard_config("cartpole", row["seed"])
    )
    assert max(figures["greedy"]) >= 450, "twenty sessions each, ten times on the way"
    np.testing.assert_allclose(curve.mean_return[:3], row["curve"]["mean_return"][:3], rtol=0.5)
    if figures["greedy"] == row["figures"]["greedy"]:  # the same processor: the same bits
        assert figures == row["figures"]
        assert figures["return"] >= 475, "the last network, not the best one"
    assert seconds < 60


def test_looking_at_the_greedy_policy_does_not_disturb_the_training():
    agents, looks = [], []
    for watched in (False, True):
        envs = gym.make_vec("CartPole-v1", num_envs=3)
        config = standard_config("cartpole", 5, learning_starts=100, batch_size=16)
        agent = DQN(envs.single_observation_space, envs.single_action_space, config)
        others = gym.make_vec("CartPole-v1", num_envs=2)

        def look(agent=agent, others=others):
            looks.append(agent.transitions)
            evaluate(agent.predict, others, 2)

        agent.learn(standard.Watched(envs, agent, 1000, look) if watched else envs, 1000)
        agents.append(agent)
    for one, other in zip(*(agent.variables() for agent in agents), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(100 * i <= at < 100 * i + 3 for i, at in enumerate(looks, start=1))
    assert len(looks) == standard.POINTS - 1


def test_the_peers_rows_were_made_with_the_table_of_settings():
    """Of CartPole with an older table. Stable-Baselines3 is not installed here."""
    rows = read_rows(experiments.PEERS)
    found = {(row["study"], row["method"], row["seed"]) for row in rows}
    assert len(found) == len(rows)
    for row in rows:
        if row["study"] not in standard.TASKS:
            continue
        loss = row["method"].split(", ")[1]
        plain = {"hidden_sizes": (128, 128), "dueling": False, "batch_size": 256}
        changes = plain if row["study"] == "cartpole" else {}
        config = standard_config(row["study"], row["seed"], double=False, loss=loss, **changes)
        expected = asdict(config)
        assert {name: row["config"][name] for name in expected} == json.loads(json.dumps(expected))
        task = standard.TASKS[row["study"]]
        assert row["config"]["total_steps"] == task.total_steps
        ours = (row["study"], row["method"].replace("Stable-Baselines3", "ours"), row["seed"])
        assert ours in found, "each of theirs has one of ours beside it"


@pytest.mark.parametrize("method", REPEATED)
def test_what_needs_no_training_comes_out_again(method, oracle):
    for row in experiment_rows("shop", method):
        customers = make_shop(1000, row["config"]["customer_seed"])
        policy = {
            "popular": lambda: fixed_policy([most_popular_item(make_shop(1000))]),
            "best fixed rule": lambda row=row: fixed_policy(row["figures"]["items"]),
            "attentive rule": attentive_policy,
            "oracle": lambda customers=customers: oracle_policy(customers, oracle[0]),
        }[method]()
        log = record_sessions(policy, customers, row["config"]["customers"])
        again = session_figures(log)
        for name, value in again.items():
            if name in row["figures"]:
                assert value == pytest.approx(row["figures"][name], abs=1e-6), name


def test_the_oracles_exact_value_comes_out_again(oracle):
    for value in column("shop", "oracle", "exact return"):
        assert value == pytest.approx(oracle[1], abs=1e-6)
    assert column("shop", "oracle", "return").mean() == pytest.approx(oracle[1], rel=0.05)


def test_the_stored_fixed_rule_is_one_of_the_family():
    for row in experiment_rows("shop", "best fixed rule"):
        assert row["figures"]["items"] in list(fixed_rules())


def test_rows_that_do_not_exist_are_refused_by_name():
    with pytest.raises(ValueError, match="study='shopping'"):
        experiment_rows("shopping")
    with pytest.raises(ValueError, match="method='magic'"):
        experiment_rows("shop", "magic")


# --- What a session shows -------------------------------------------------------------------------


def test_the_figures_of_sessions_are_those_counted_one_by_one():
    log = record_sessions(attentive_policy(), make_shop(50), 300, seed=2)
    figures = session_figures(log)
    score = evaluate(attentive_policy(), make_shop(50), 300, seed=2)
    assert figures["return"] == pytest.approx(score.mean)
    assert figures["length"] == pytest.approx(score.lengths.mean())
    assert figures["worst decile"] == pytest.approx(np.sort(score.returns)[:30].mean())
    bought, final, alike, by_type = 0, [], [], {}
    for session in range(300):
        pages = np.flatnonzero(log.session == session)
        bought += int((log.event[pages] == 3).sum())
        final.append(log.satisfaction_after[pages[-1]])
        shown = (log.item[pages] // 3).tolist()
        pairs = [a != b for i, a in enumerate(shown) for b in shown[:i]]
        if pairs:
            alike.append(np.mean(pairs))
        by_type.setdefault(int(log.customer_type[pages[0]]), []).append(score.returns[session])
    assert figures["purchases"] == pytest.approx(bought / 300)
    assert figures["final satisfaction"] == pytest.approx(np.mean(final))
    assert figures["diversity"] == pytest.approx(np.mean(alike))
    assert figures["worst type"] == pytest.approx(min(map(np.mean, by_type.values())))
    camera = [r for kind, returns in by_type.items() if kind < 6 for r in returns]
    assert figures["return, cameras"] == pytest.approx(np.mean(camera))
    one = session_figures(record_sessions(fixed_policy([4]), make_shop(50), 300, seed=2))
    assert one["coverage"] == pytest.approx(1 / 12)
    assert one["diversity"] == 0
    assert session_figures(log)["coverage"] > 0.5


def test_a_studys_run_gives_figures_and_for_a_dqn_its_curve(monkeypatch):
    monkeypatch.setattr(studies, "CUSTOMERS", 50)
    small = {"DQN": ({"buffer_size": 5000}, 3000)}
    monkeypatch.setattr(studies, "SHOP_DQNS", small)
    monkeypatch.setattr(studies, "TABULAR_STEPS", 5000)
    monkeypatch.setattr(studies, "LINUCB_STEPS", 1000)
    monkeypatch.setattr(studies, "LOG_SESSIONS", 100)
    monkeypatch.setattr(studies, "_fixed_rule", lambda: [1, 4, 7])
    for method in STUDIES["shop"]:
        if method == "myopic DQN":
            continue
        outcome = studies.run("shop", method, 3)
        assert 0 < outcome.figures["return"] < 20
        assert (outcome.curve is not None) == (method == "DQN")
    assert settings("shop", "DQN", 3)["total_steps"] == 3000
    assert settings("epsilon", "constant 0.3", 3)["epsilon_start"] == 0.3


# --- Stopping and going on ------------------------------------------------------------------------

TASKS = [("fake", method, seed) for method in ("a", "b") for seed in range(3)]
FAKE = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from dqnrec_lite.experiments import make_rows
from test_experiments import TASKS, fake_settings, outcome
def run(*task):
    time.sleep(0.3)
    return outcome(*task)
make_rows(TASKS, Path(sys.argv[1]), run, fake_settings)
"""


def fake_settings(study, method, seed):
    return {"method": method, "seed": seed}


def outcome(study, method, seed):
    column = np.array([seed, np.nan])
    curve = LearningCurve(*[column if name != "transitions" else np.array([1, 2])
                            for name in LearningCurve._fields])  # fmt: skip
    return Outcome(0.04, {"return": seed + 1 / 3}, curve if method == "b" else None)


def counting(made: list):
    return lambda *task: made.append(task) or outcome(*task)


def test_a_study_killed_after_some_rows_goes_on_and_ends_with_the_same_file(tmp_path):
    whole = make_rows(TASKS, tmp_path / "whole", outcome, fake_settings)
    here = Path(__file__).parent
    partial = tmp_path / "partial"
    arguments = [sys.executable, "-c", FAKE, str(partial), str(here)]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    for _ in range(6000):
        if partial.exists() and len(partial.read_text().splitlines()) >= 2:
            break
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = partial.read_text()
    made = []
    rows = make_rows(TASKS, partial, counting(made), fake_settings)
    assert made == TASKS[len(before.splitlines()) :]
    assert partial.read_text().startswith(before)
    assert partial.read_text() == (tmp_path / "whole").read_text()
    assert rows == whole
    assert [json.loads(line) for line in partial.read_text().splitlines()] == rows
    assert rows[-1]["curve"]["mean_return"] == [2.0, None]
    assert rows[-1]["curve"]["transitions"] == [1, 2]


def test_rows_of_other_settings_or_versions_are_made_again(tmp_path):
    make_rows(TASKS, tmp_path / "partial", outcome, fake_settings)
    made = []

    def changed(study, method, seed):
        return fake_settings(study, method, seed) | ({"new": 1} if method == "a" else {})

    make_rows(TASKS, tmp_path / "partial", counting(made), changed)
    assert made == TASKS[:3]
    lines = (tmp_path / "partial").read_text().replace('"python": "3', '"python": "2')
    (tmp_path / "partial").write_text(lines)
    made.clear()
    make_rows(TASKS, tmp_path / "partial", counting(made), fake_settings)
    assert made == TASKS


@pytest.mark.parametrize("damage", ['{"study": "fake", "meth', "[1]", '{"study": "fake"}', "x"])
def test_a_damaged_line_is_refused_by_its_number_and_can_be_deleted(tmp_path, damage):
    partial = tmp_path / "partial"
    make_rows(TASKS[:2], partial, outcome, fake_settings)
    good = partial.read_text()
    partial.write_text(good + damage)
    with pytest.raises(ValueError, match=r"partial, line 3: damaged .* delete this line"):
        make_rows(TASKS, partial, outcome, fake_settings)
    assert partial.read_text() == good + damage
    partial.write_text(good)
    assert len(make_rows(TASKS, partial, outcome, fake_settings)) == 6


# --- Comparing ------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The command on a study of two methods, with a stored file of its own."""
    monkeypatch.setattr(experiments, "STORED", tmp_path / "experiments.jsonl")
    monkeypatch.setattr(experiments, "STUDIES", {"shop": ("random", "DQN"), "other": ("DQN",)})
    monkeypatch.setattr(experiments, "seeds_of", lambda study: range(3))
    shift = {"random": 0.0, "DQN": 0.0}

    def run(study, method, seed):
        return Outcome(0.0, {"return": 9.0 + seed + shift[method]}, None)

    made = experiments.make_rows
    monkeypatch.setattr(
        experiments, "make_rows", lambda tasks, partial: made(tasks, partial, run, fake_settings)
    )
    return shift


def test_the_command_makes_all_rows_then_checks_them_and_says_what_differs(small, capsys, tmp_path):
    path = tmp_path / "experiments.jsonl"
    assert experiments.main([]) == 0
    first = path.read_text()
    assert len(read_rows(path)) == 9
    assert experiments.main(["--check"]) == 0
    small["DQN"] = 0.4  # of a mean of 10: within 5 %
    assert experiments.main(["--check"]) == 0
    small["DQN"] = 0.6
    capsys.readouterr()
    assert experiments.main(["--check", "shop"]) == 1
    assert "shop, DQN, return: 10 before, 10.6 now" in capsys.readouterr().out
    small.update(DQN=0.0, random=1e-3)
    assert experiments.main(["--check"]) == 1, "what is not learnt must come out the same"
    assert path.read_text() == first, "--check keeps the stored rows"
    assert experiments.main(["shop"]) == 0
    assert "random, seed" in capsys.readouterr().out
    assert [row["figures"]["return"] for row in read_rows(path) if row["method"] == "random"] == [
        9.001, 10.001, 11.001,
    ]  # fmt: skip
    assert len(read_rows(path)) == 9, "rows of other studies stay"
    assert list(tmp_path.iterdir()) == [path]
    waits = tmp_path / "experiments.partial"
    experiments.make_rows([("other", "DQN", 0)], waits)
    left = waits.read_text()
    assert experiments.main(["shop"]) == 0
    assert waits.read_text() == left, "a study that was stopped still waits"
    assert [row["study"] for row in read_rows(path)] == ["shop"] * 6 + ["other"] * 3


def test_the_command_can_be_stopped_and_refuses_what_it_does_not_know(small, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "make_rows", stop)
    assert experiments.main([]) == 130
    assert "goes on from there" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        experiments.main(["shopping"])
    assert "no such study: shopping" in capsys.readouterr().err


def test_only_what_both_sides_have_is_compared(tmp_path):
    rows = make_rows(TASKS, tmp_path / "partial", outcome, fake_settings)
    store(rows, tmp_path / "stored")
    old = read_rows(tmp_path / "stored")
    old[0]["figures"] = {"another": 1.0}
    assert len(differences(old, rows)) == 2
    assert differences([], rows) == []
    assert max(size for size, _ in differences(rows, rows)) == 0
