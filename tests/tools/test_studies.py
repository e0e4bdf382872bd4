"""The long studies: stored rows show what the book says, come out again, and can be verified."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dqnrec_lite import DQN, evaluate, make_shop, seed_everything, studies
from dqnrec_lite.baselines import attentive_policy, fixed_policy, fixed_rules
from dqnrec_lite.curve import LearningCurve
from dqnrec_lite.envs.oracle import solve_oracle
from dqnrec_lite.evaluation import confidence_interval
from dqnrec_lite.logs.records import record_sessions
from dqnrec_lite.studies import __main__ as command
from dqnrec_lite.studies import epsilon, loss, shop, study, tasks
from dqnrec_lite.studies.study import (
    Outcome,
    Study,
    differences,
    make_rows,
    read_rows,
    settings_of,
    store,
)

seed_everything(0)
STUDIES = {
    name: each for name, each in studies.all_studies().items() if study.stored_path(name).exists()
}


def column(name: str, method: str, figure: str) -> np.ndarray:
    return np.array([row["figures"][figure] for row in studies.rows(name, method)])


# --- What is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_all_its_rows_of_ten_unseen_seeds_made_with_todays_settings(name):
    found = studies.rows(name)
    assert [(row["method"], row["seed"]) for row in found] == STUDIES[name].runs()
    fresh = [seed for seed in STUDIES[name].seeds if seed >= 1000]  # those below 100 are for tuning
    assert len(fresh) >= 10 or name.startswith("defaults_"), "settings chosen, and nothing claimed"
    for row in found:
        assert row["config"] == STUDIES[name].settings(row["method"], row["seed"])


def test_reading_rows_needs_no_tensorflow_and_hands_out_copies():
    read = "import sys; from dqnrec_lite.studies.study import rows; rows('shop', 'DQN')"
    package = Path(study.__file__).parents[1]
    bare = (
        f"import sys, types; m = types.ModuleType('dqnrec_lite'); m.__path__ = [{str(package)!r}]"
    )
    bare += "; sys.modules['dqnrec_lite'] = m; " + read + "; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", bare], check=True)
    first = studies.rows("pocket", "DQN")
    first[0]["figures"].clear()
    assert studies.rows("pocket", "DQN")[0]["figures"]


def test_rows_that_do_not_exist_are_refused_by_name():
    with pytest.raises(ValueError, match="study='shopping'; there are acrobot, again_"):
        studies.rows("shopping")
    with pytest.raises(ValueError, match="method='magic'; there are popular, random"):
        studies.rows("shop", "magic")


def test_pocketshop_is_learnt_for_every_seed_and_in_time():
    for row in studies.rows("pocket", "DQN"):
        assert 0.99 <= row["figures"]["share of optimum"] <= 1 + 1e-6, row
        assert row["figures"]["largest error over range"] <= 0.05, row
        assert row["seconds"] <= 30, row


def test_the_dqn_beats_every_baseline_with_an_interval_clear_of_0_and_in_time():
    ours = column("shop", "DQN", "return")
    others = set(shop.STUDY.methods) - {"DQN", "oracle"}
    assert len(others) >= 6
    for method in others:
        lead = ours - column("shop", method, "return")
        assert confidence_interval(lead)[0] > 0, f"no clear lead over {method}"
    assert max(row["seconds"] for row in studies.rows("shop", "DQN")) <= 60
    assert (column("shop", "oracle", "return") > ours).all()


def test_with_huber_loss_the_values_of_the_pole_run_away_unless_syncs_are_rare():
    bound = 1 / (1 - loss.pole_config(0).discount)
    assert (column("loss", "mse", "largest q") < bound).all()
    assert (column("loss", "huber", "largest q") > 10_000 * bound).all()
    for method in ("huber, rare syncs", "huber, one update a step"):  # q settles between syncs
        assert (column("loss", method, "largest q") < 2 * bound).all()


@pytest.mark.parametrize("name", tasks.TASKS)
def test_the_standard_tasks_learn_what_they_must(name):
    task = tasks.TASKS[name]
    for row in studies.rows(name):
        figures, curve = row["figures"], row["curve"]
        assert figures["lowest"] <= figures["return"] <= figures["highest"]
        assert len(figures["greedy"]) == tasks.POINTS
        assert task.total_steps <= curve["transitions"][-1] < task.total_steps + tasks.LANES
    if task.required is not None:
        passed = column(name, "DQN", "return") >= task.required
        assert passed.sum() >= 9, passed


def test_a_task_can_begin_with_other_values_than_zeros():
    task = tasks.TaskStudy(
        name="hill", environment="MountainCar-v0", total_steps=tasks.LANES, required=None,
        own={"updates_per_transition": 0.0}, methods={"none": {}, "low": {}},
        first_values={"low": -100.0},
    )  # fmt: skip
    promised = {method: task.run(method, 0).figures["promise"] for method in task.methods}
    assert promised["low"] == pytest.approx(promised["none"] - 100.0, abs=1e-3)
    assert task.settings("low", 0)["first_value"] == -100.0
    assert "first_value" not in task.settings("none", 0)


def test_each_peers_row_was_made_with_our_settings_and_has_one_of_ours_beside_it():
    """Of CartPole with an older table. Stable-Baselines3 is not installed here."""
    rows = studies.rows("peers_sb3")
    found = {(row["study"], row["method"], row["seed"]) for row in rows}
    assert len(found) == len(rows)
    for row in rows:
        if row["study"] not in tasks.TASKS:
            continue
        task, plain = tasks.TASKS[row["study"]], {}
        if row["study"] == "cartpole":
            plain = {"hidden_sizes": (128, 128), "dueling": False, "batch_size": 256}
        changes = plain | {"double": False, "loss": row["method"].split(", ")[1]}
        expected = settings_of(replace(task.config("DQN", row["seed"]), **changes))
        expected["total_steps"] = task.total_steps
        assert {name: row["config"][name] for name in expected} == expected
        ours = row["method"].replace("Stable-Baselines3", "ours")
        assert (row["study"], ours, row["seed"]) in found


# --- What comes out again -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["popular", "best fixed rule", "attentive rule", "oracle"])
def test_what_needs_no_training_comes_out_again(method, monkeypatch):
    """All ten seeds; the search for the best fixed rule is left to `make verify`."""
    items = studies.rows("shop", "best fixed rule")[0]["figures"]["items"]
    monkeypatch.setattr(shop, "fixed_rule", lambda: items)
    assert items in list(fixed_rules())
    for row in studies.rows("shop", method):
        again = shop.STUDY.run(method, row["seed"]).figures
        for name, value in row["figures"].items():
            assert again[name] == pytest.approx(value, abs=1e-6), name
    exact = solve_oracle()[1]
    assert column("shop", "oracle", "return").mean() == pytest.approx(exact, rel=0.05)


def test_a_trained_row_comes_out_again_to_the_bit_on_the_machine_that_made_it(tmp_path):
    row = studies.rows("epsilon", "constant 0.05")[0]
    (again,) = make_rows(epsilon.STUDY, [("constant 0.05", row["seed"])], tmp_path / "partial")
    found = differences(epsilon.STUDY, studies.rows("epsilon"), [again])
    assert max(difference.size for difference in found.values()) <= 1
    if again["curve"]["td_error"][:3] == row["curve"]["td_error"][:3]:  # the same processor
        assert again["figures"] == row["figures"]
        assert again["curve"] == row["curve"]
    assert again["config"] == row["config"]


def test_looking_at_the_greedy_policy_does_not_disturb_the_training():
    agents, looks = [], []
    for watched in (False, True):
        envs = gym.make_vec("CartPole-v1", num_envs=3)
        config = tasks.TASKS["cartpole"].config("DQN", 5)
        config = replace(config, learning_starts=100, batch_size=16)
        agent = DQN(envs.single_observation_space, envs.single_action_space, config)
        others = gym.make_vec("CartPole-v1", num_envs=2)

        def look(agent=agent, others=others):
            looks.append(agent.transitions)
            evaluate(agent.predict, others, 2)

        agent.learn(tasks.Watched(envs, agent, 1000, look) if watched else envs, 1000)
        agents.append(agent)
    for one, other in zip(*(agent.q_network.get_weights() for agent in agents), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(100 * i <= at < 100 * i + 3 for i, at in enumerate(looks, start=1))
    assert len(looks) == tasks.POINTS - 1


# --- What a session shows -------------------------------------------------------------------------


def test_the_figures_of_sessions_are_those_counted_one_by_one():
    log = record_sessions(attentive_policy(), make_shop(50), 300, seed=2)
    figures = shop.session_figures(log)
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
    one = shop.session_figures(record_sessions(fixed_policy([4]), make_shop(50), 300, seed=2))
    assert one["coverage"] == pytest.approx(1 / 12)
    assert one["diversity"] == 0
    assert figures["coverage"] > 0.5


def test_every_method_of_the_shop_runs_with_the_settings_of_its_row(monkeypatch):
    monkeypatch.setattr(shop, "fixed_rule", lambda: [1, 4, 7])
    small = dict(shop.METHODS)
    for method, changes in {
        "item-to-item": {"log_sessions": 100},
        "LinUCB": {"total_steps": 1000, "num_envs": 50},
        "tabular": {"total_steps": 5000, "num_envs": 50},
    }.items():
        small[method] = replace(small[method], own_settings=changes)
    small["DQN"] = shop.ShopDQN({"buffer_size": 5000}, total_steps=3000)
    del small["myopic DQN"]  # the same code
    tried = shop.ShopStudy(name="small", methods=small, customers=50)
    for method in small:
        outcome = tried.run(method, 1000)
        assert 0 < outcome.figures["return"] < 20
        assert (outcome.curve is not None) == (method == "DQN")
    assert tried.settings("DQN", 1000)["total_steps"] == 3000
    assert 3000 <= tried.run("DQN", 1000).curve.transitions[-1] < 3000 + shop.SHOP_LANES
    assert tried.settings("tabular", 1001) == {
        "customers": 50, "customer_seed": 2001, "total_steps": 5000, "num_envs": 50,
    }  # fmt: skip


# --- Stopping and going on ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fake(Study):
    """Rows at once: `figure` says what a method's runs measure; `b` has a curve."""

    shift: dict = field(default_factory=dict)
    made: list = field(default_factory=list)
    changed: dict = field(default_factory=dict)
    pause: float = 0.0

    def settings(self, method, seed):
        return {"method": method, "seed": seed} | self.changed.get(method, {})

    def run(self, method, seed):
        time.sleep(self.pause)
        self.made.append((method, seed))
        value = np.array([seed, np.nan])
        curve = dict.fromkeys(LearningCurve._fields, value) | {"transitions": np.array([1, 2])}
        figures = {"return": 10 + seed / 3 + self.shift.get(method, 0.0), "list": [seed]}
        return Outcome(0.04, figures, LearningCurve(**curve) if method == "b" else None)


def fake(name="fake", seeds=3, **other) -> Fake:
    return Fake(name=name, methods={"a": None, "b": None}, seeds=range(seeds), **other)


SLOWLY = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_studies import fake, make_rows
slow = fake(pause=0.3)
make_rows(slow, slow.runs(), Path(sys.argv[1]))
"""


def test_a_study_killed_after_some_rows_goes_on_and_ends_with_the_same_file(tmp_path):
    whole = make_rows(fake(), fake().runs(), tmp_path / "whole")
    partial = tmp_path / "partial"
    arguments = [sys.executable, "-c", SLOWLY, str(partial), str(Path(__file__).parent)]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    while not partial.exists() or len(partial.read_text().splitlines()) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = partial.read_text()
    again = fake()
    rows = make_rows(again, again.runs(), partial)
    assert again.made == again.runs()[len(before.splitlines()) :]
    assert partial.read_text().startswith(before)
    assert partial.read_text() == (tmp_path / "whole").read_text()
    assert rows == whole == [json.loads(line) for line in partial.read_text().splitlines()]
    assert rows[-1]["curve"]["mean_return"] == [2.0, None]
    assert rows[-1]["curve"]["transitions"] == [1, 2]


def test_rows_of_other_settings_versions_or_studies_are_made_again(tmp_path):
    partial = tmp_path / "partial"
    make_rows(fake(), fake().runs(), partial)
    changed = fake(changed={"a": {"new": 1}})
    make_rows(changed, changed.runs(), partial)
    assert changed.made == changed.runs()[:3]
    other = fake("other")
    make_rows(other, other.runs(), partial)
    assert other.made == other.runs()
    partial.write_text(partial.read_text().replace('"python": "3', '"python": "2'))
    again = fake()
    make_rows(again, again.runs(), partial)
    assert again.made == again.runs()


def test_a_file_of_rows_is_replaced_at_once_or_not_at_all(tmp_path, monkeypatch):
    stored, rows = tmp_path / "fake.jsonl", make_rows(fake(), fake().runs(), tmp_path / "partial")
    store(rows[:3], stored)
    assert read_rows(stored) == rows[:3]

    def power_cut(file):
        raise OSError("no more power")

    monkeypatch.setattr(os, "fsync", power_cut)
    with pytest.raises(OSError, match="no more power"):
        store(rows, stored)
    assert read_rows(stored) == rows[:3]


@pytest.mark.parametrize("damage", ['{"study": "fake", "meth', "[1]", '{"study": "fake"}', "x"])
def test_a_damaged_line_is_refused_by_its_number_and_can_be_deleted(tmp_path, damage):
    partial = tmp_path / "partial"
    make_rows(fake(), fake().runs()[:2], partial)
    good = partial.read_text()
    partial.write_text(good + damage)
    with pytest.raises(ValueError, match=r"partial, line 3: damaged .* delete this line"):
        make_rows(fake(), fake().runs(), partial)
    assert partial.read_text() == good + damage
    partial.write_text(good)
    assert len(make_rows(fake(), fake().runs(), partial)) == 6


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The command on two made-up studies of twenty seeds, with a folder of rows of their own."""
    monkeypatch.setattr(study, "ROWS", tmp_path)
    both = {name: fake(name, 20, exact=frozenset("a")) for name in ("one", "two")}
    monkeypatch.setattr(command, "all_studies", lambda: both)
    assert command.main(["make"]) == 0
    for each in both.values():
        each.made.clear()
    return both


def test_make_replaces_the_files_of_the_chosen_studies_only(small, tmp_path, capsys):
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(before) == ["one.jsonl", "two.jsonl"]
    assert studies.rows("one", "a")[0]["figures"]["return"] == 10
    small["one"].shift.update(a=0.5)
    assert command.main(["make", "one"]) == 0
    assert "one, a, seed 0, return: 10 before, 10.5 now" in capsys.readouterr().out
    assert read_rows(tmp_path / "one.jsonl")[0]["figures"]["return"] == 10.5
    assert (tmp_path / "two.jsonl").read_text() == before["two.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.jsonl", "two.jsonl"]
    assert studies.rows("one", "a")[0]["figures"]["return"] == 10.5, "not what was cached"


def test_verify_makes_a_seeded_tenth_of_every_methods_rows_or_all_of_them(small, capsys):
    drawn = []
    for draw in ("0", "0", "1"):
        assert command.main(["verify", "--draw", draw]) == 0
        out = capsys.readouterr().out
        assert (
            f"Making 8 of 80 stored rows anew: a tenth of each method's, drawn by DRAW={draw}"
            in out
        )
        assert "8 of 8 rows are equal in every digit" in out
        assert "Out of reach: peers_sb3" in out
        for each in small.values():
            assert [method for method, _ in each.made] == ["a", "a", "b", "b"]
            assert len(set(each.made)) == 4
        drawn.append([list(each.made) for each in small.values()])
        for each in small.values():
            each.made.clear()
    assert drawn[0] == drawn[1] != drawn[2]
    assert command.main(["verify", "--all", "two"]) == 0
    assert small["two"].made == small["two"].runs()
    assert not small["one"].made
    for each in STUDIES.values():  # one of each method's at least
        a_tenth = len(each.methods) * -(-len(each.seeds) // 10)
        assert len(each.drawn(0)) == a_tenth, each.name


def test_verify_is_red_on_a_changed_figure_and_keeps_what_is_stored(small, tmp_path, capsys):
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    small["one"].shift.update(a=1e-5)
    assert command.main(["verify"]) == 1, "what is not learnt must come out the same"
    out = capsys.readouterr().out
    assert "beyond what another processor changes: 2." in out
    assert "6 of 8 rows are equal in every digit" in out
    small["one"].shift.update(a=0.0, b=0.5)  # of a mean of 13: within 5 %
    assert command.main(["verify", "--all"]) == 0
    assert "one, b, seed 19" in capsys.readouterr().out, "it says which are not equal"
    small["one"].shift.update(b=0.7)
    assert command.main(["verify", "--all"]) == 1
    assert "one, b, return: 13.1667 before, 13.8667 now" in capsys.readouterr().out
    small["one"].shift.update(b=30.0)  # of two seeds
    assert command.main(["verify"]) == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_verify_says_where_a_curve_is_not_equal_though_the_figures_are(small, tmp_path, capsys):
    stored = tmp_path / "one.jsonl"
    stored.write_text(stored.read_text().replace('"transitions": [1, 2]', '"transitions": [1, 3]'))
    assert command.main(["verify"]) == 0
    out = capsys.readouterr().out
    assert "6 of 8 rows are equal in every digit, figures and curve" in out
    assert "one, b, seed" in out


def test_verify_is_red_where_the_stored_rows_are_not_of_todays_study(small, tmp_path, capsys):
    small["one"].changed.update(a={"new": 1})
    assert command.main(["verify"]) == 1
    assert "one, a, seed 7: stored with other settings" in capsys.readouterr().out
    small["one"].changed.clear()
    lines = (tmp_path / "two.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "two.jsonl").write_text("".join(lines[:-1]))
    assert command.main(["verify"]) == 1
    assert "two: other rows are stored than it has" in capsys.readouterr().out


def test_a_stopped_verify_goes_on_and_unknown_studies_are_refused(small, tmp_path, capsys):
    class Stopping(Fake):
        def run(self, method, seed):
            if (method, seed) == self.drawn(0)[-1]:
                raise KeyboardInterrupt
            return super().run(method, seed)

    whole, small["two"] = small["two"], Stopping(**vars(small["two"]))
    assert command.main(["verify"]) == 130
    assert "goes on from there" in capsys.readouterr().out
    small["two"] = whole
    made = [list(each.made) for each in small.values()]
    assert command.main(["verify"]) == 0
    assert "two: going on from two.verify.partial" in capsys.readouterr().out
    assert [small["one"].made, small["two"].made] == [made[0], whole.drawn(0)], "none made twice"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.jsonl", "two.jsonl"]
    with pytest.raises(SystemExit):
        command.main(["verify", "shopping"])
    assert "no such study: shopping" in capsys.readouterr().err


# --- Comparing ------------------------------------------------------------------------------------


def test_a_figure_of_only_one_side_differs(tmp_path):
    tried = fake(exact=frozenset("a"))
    rows = make_rows(tried, tried.runs(), tmp_path / "partial")
    assert {x.size for x in differences(tried, rows, rows).values()} == {0.0}
    less = json.loads(json.dumps(rows))
    del less[0]["figures"]["list"], less[-1]["figures"]["return"]
    for found in (differences(tried, less, rows), differences(tried, rows, less)):
        wrong = {where for where, x in found.items() if x.size > 1}
        assert wrong == {("a", "list[0]", 0), ("b", "return", None)}


@pytest.mark.parametrize("name", STUDIES)
def test_no_stored_seed_is_further_from_another_than_a_processor_may_move_it(name):
    """As another processor would: each seed in the place of its neighbour."""
    one = STUDIES[name]
    for method in set(one.methods) - one.exact:
        stored = studies.rows(name, method)
        for row, other in zip(stored, stored[1:] + stored[:1], strict=True):
            moved = row | {"figures": other["figures"]}
            assert max(x.size for x in differences(one, stored, [moved]).values()) <= 1
