"""The measuring scripts in `benchmarks/`: their arithmetic, their form, their complaints."""

import json
import sys
import time
from dataclasses import replace

import bench
import floor
import gymnasium as gym
import keras
import numpy as np
import peers_loops
import peers_speed
import pytest
import speed_tables
import tensorflow as tf
from measuring import in_turn, short, spread, timed, write
from PIL import Image

from dqnrec_lite.targets import double_dqn_value, dqn_value, td_target

SIZES = [4, 12, 8, 3]


def keras_copy(layers: floor.Layers) -> keras.Model:
    *hidden, head = [kernel.shape[1] for kernel, _ in layers]
    network = keras.Sequential(
        [keras.Input((SIZES[0],))]
        + [keras.layers.Dense(units, activation="relu") for units in hidden]
        + [keras.layers.Dense(head)]
    )
    network.set_weights([array for layer in layers for array in layer])
    return network


@pytest.mark.parametrize("double", [False, True])
def test_floor_computes_the_gradient_that_keras_computes(double: bool) -> None:
    online, target = floor.random_layers(SIZES, seed=1), floor.random_layers(SIZES, seed=2)
    batch = floor.random_minibatch(64, SIZES, seed=3)
    found = floor.gradient(online, target, batch, 0.9, double)

    network, frozen = keras_copy(online), keras_copy(target)
    next_q = frozen(batch.next_observation)
    value = double_dqn_value(network(batch.next_observation), next_q) if double else None
    goal = td_target(
        batch.reward, batch.terminated, dqn_value(next_q) if value is None else value, 0.9
    )
    with tf.GradientTape() as tape:
        q = tf.gather(network(batch.observation), batch.action, batch_dims=1)
        loss = tf.reduce_mean(0.5 * (goal - q) ** 2)
    expected = tape.gradient(loss, network.trainable_variables)
    assert len(found) == len(expected) == 6
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-6)


def test_double_and_plain_floor_differ() -> None:
    """Otherwise the test above could not tell which one it checks."""
    online, target = floor.random_layers(SIZES, seed=1), floor.random_layers(SIZES, seed=2)
    batch = floor.random_minibatch(64, SIZES, seed=3)
    plain, double = (floor.gradient(online, target, batch, 0.9, d) for d in (False, True))
    assert not np.allclose(plain[-1], double[-1])


@pytest.mark.parametrize(("double", "passes"), [(False, 2), (True, 3)])
def test_products_are_those_of_the_passes(
    double: bool, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    monkeypatch.setattr(
        floor.np, "matmul", lambda a, b, out: shapes.append((a.shape, b.shape, out.shape))
    )
    floor.products(SIZES, 5, double)()
    forward = [((5, i), (i, o), (5, o)) for i, o in [(4, 12), (12, 8), (8, 3)]]
    assert shapes[: 3 * passes] == forward * passes
    backward = shapes[3 * passes :]
    assert [out for _, _, out in backward] == [(8, 3), (5, 8), (12, 8), (5, 12), (4, 12)]


def test_rounds_alternate_and_the_first_is_dropped() -> None:
    order: list[str] = []

    def work(name: str) -> dict[str, float]:
        order.append(name)
        return {name: float(len(order)), f"{name} too": 0.0}

    rates = in_turn([lambda: work("a"), lambda: work("b")], rounds=2)
    assert "".join(order) == "ababab"
    assert rates == {"a": [3.0, 5.0], "a too": [0.0] * 2, "b": [4.0, 6.0], "b too": [0.0] * 2}


@pytest.mark.alone
def test_timed_counts_calls_and_what_each_does() -> None:
    calls = []
    rate = timed(lambda: calls.append(time.sleep(0.01)), each=5, seconds=0.1)
    assert 5 <= len(calls) <= 10
    assert rate == pytest.approx(5 * len(calls) / 0.1, rel=0.3)
    timed(lambda: calls.clear() or calls.append(None))
    assert len(calls) == 1


def test_written_file_says_when_and_on_what(tmp_path) -> None:
    write(tmp_path / "new" / "bench.json", {"rows": [1]})
    content = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert list(content) == ["date", "machine", "rows"]
    assert set(content["machine"]) == {"processor", "cores", "system", "python"}


def test_the_floor_is_that_of_the_better_number_of_threads() -> None:
    found = {"f; 1": [3.0, 3.0, 3.0], "f; 2": [1.0, 9.0, 1.0], "g; 1": [1.0], "g; 2": [2.0]}
    rates, threads = bench.best_threads(found | {"ours": [7.0]})
    assert rates == {"f": [3.0, 3.0, 3.0], "g": [2.0], "ours": [7.0]}
    assert threads == {"f": 1, "g": 2}


def test_training_is_measured_beside_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 4)
    monkeypatch.setattr(bench, "UPDATES", 64)
    monkeypatch.setattr(floor, "SECONDS", 0.001)
    works: dict[str, float] = dict.fromkeys(floor.works([4, 8, 2], 128, 2), 50.0)
    monkeypatch.setattr(floor, "rates", lambda *shape: works)
    config = replace(bench.POLE, hidden_sizes=(8,), learning_starts=10, updates_per_transition=0.5)
    envs = gym.make_vec("CartPole-v1", num_envs=2)
    rows = {row["name"]: row for row in bench.training("pole", envs, config, steps=100)}
    kinds = {"updating, DQN", "updating, Double DQN", "learn, DQN", "learn, Double DQN"}
    assert set(rows) == kinds | set(works) | {"acting, DQN.predict"}
    for name, row in rows.items():
        assert len(row["runs"]) == 2
        assert row["low"] <= row["median"] <= row["high"]
        assert ("share_of_floor" in row) == (name not in works)
        assert ("compile_seconds" in row) == name.startswith("updating")
    row = rows["learn, DQN"]
    assert row["share_of_floor"]["median"] == pytest.approx(row["median"] * 0.5 / 50)
    row = rows["updating, DQN"]
    assert row["share_of_floor"]["median"] == pytest.approx(row["median"] / 50)
    assert f"{row['median'] / 50:.0%} (" in bench.table(list(rows.values()))


def test_what_priorities_cost_is_measured_beside_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 4)
    monkeypatch.setattr(bench, "UPDATES", 64)
    config = replace(bench.POLE, hidden_sizes=(8,), buffer_size=1_000)
    rows = bench.prioritising("pole", gym.make_vec("CartPole-v1", num_envs=2), config)
    assert [row["name"] for row in rows] == ["updating, uniform", "updating, prioritised"]
    times = [u / p for u, p in zip(*(row["runs"] for row in rows), strict=True)]
    assert rows[1]["times_cost"] == spread(times)
    assert "times the cost of uniform" in bench.table(rows)


def test_shares_of_the_floor_are_taken_within_a_round() -> None:
    """A machine that slows down by half changes no share."""
    rates = {"updating, DQN": [8.0, 4.0, 9.0], "NumPy floor, DQN": [10.0, 5.0, 18.0]}
    rows = bench.rows_of("pole", rates)
    bench.compare(rows, updates_per_transition=1.0)
    assert rows[0]["share_of_floor"] == {"median": 0.8, "low": 0.5, "high": 0.8}
    assert "80% (50% to 80%) of the NumPy floor" in bench.table(rows)


def stored(name: str) -> dict:
    return json.loads((speed_tables.DATA / f"{name}.json").read_text(encoding="utf-8"))


def test_stored_figures_of_our_parts_are_those_of_their_runs() -> None:
    found = stored("bench")
    assert set(found) == {"date", "machine", "versions", "rows"}
    names = set()
    for config, task in ((bench.POLE, "CartPole-v1"), (bench.SHOP, "Shop")):
        rows = [row for row in found["rows"] if row["group"].startswith(f"{task}: ")]
        rows = [row for row in rows if "priorities" not in row["group"]]
        again = bench.rows_of("", {row["name"]: row["runs"] for row in rows})
        bench.compare(again, config.updates_per_transition)
        for row, same in zip(rows, again, strict=True):
            assert row["unit"] == same["unit"]
            assert row.get("share_of_floor") == same.get("share_of_floor")
            names.add(row["name"])
    assert {"learn, DQN", "learn, Double DQN", "acting, DQN.predict"} <= names
    for row in found["rows"]:
        assert {key: row[key] for key in ("median", "low", "high")} == spread(row["runs"])


def test_the_book_shows_our_parts_as_they_were_stored(tmp_path) -> None:
    rates = {"updating, DQN": [8.0, 4.0, 9.0], "NumPy floor, DQN": [10.0, 5.0, 18.0]}
    rows = bench.rows_of("the pole", rates)
    bench.compare(rows, updates_per_transition=1.0)
    rows[0] |= {"compile_seconds": 1.23, "times_cost": {"median": 1.1, "low": 1.0, "high": 1.2}}
    alone = bench.rows_of("simulator", {"Shop": [1e6]})[0] | {"unit": "transitions/s"}
    bench.store([alone, *rows], tmp_path / "bench.json")
    shown = speed_tables.bench(json.loads((tmp_path / "bench.json").read_text()))
    shown = shown.replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert "| Shop | 1,000,000 transitions/s |" in shown
    assert "| updating, DQN | 8.0 (4.0 to 9.0) updates/s | 80 (50 to 80) |" in shown
    assert "| NumPy floor, DQN | 10 (5.0 to 18) updates/s |  |" in shown
    assert "**Simulator; 1 rounds**" in shown
    assert "**The pole; 3 rounds**" in shown
    assert "Compiling comes before, once: DQN 1.2 s." in shown
    assert "A DQN update costs 1.1 (1.0 to 1.2) times a uniform one." in shown
    assert f"Python {sys.version.split()[0]}, " in shown[-1]
    assert f"numpy {np.__version__}, " in shown[-1]


def test_rates_are_shown_with_the_digits_that_last() -> None:
    found = [0.05, 0.679, 0.999, 1.0, 9.94, 9.96, 99.6, 262.0, 4281.0, 1_234_567.0]
    wanted = "0.05 0.68 1.0 1.0 9.9 10 100 260 4,300 1,200,000"
    assert " ".join(map(short, found)) == wanted


def test_floor_prints_its_rates() -> None:
    rates = floor.rates([4, 8, 2], 16, 2, threads=1)
    assert set(rates) == set(floor.works([4, 8, 2], 16, 2))
    assert min(rates.values()) > 0


@pytest.mark.parametrize("num_envs", [1, 8])
def test_loop_makes_one_gradient_step_for_each_transition(num_envs: int) -> None:
    updates, syncs, acted = [], [], []

    def act(observation: np.ndarray) -> np.ndarray:
        acted.append(observation.shape)
        return np.zeros(len(observation), int)

    clock = peers_loops.loop(
        act, updates.append, lambda: syncs.append(1), num_envs, 700, 0, 128, 100
    )
    assert 0 <= clock.done - 928 < num_envs
    assert abs(len(updates) - 800) < num_envs
    assert len(syncs) == len(updates) // peers_loops.SYNC_EVERY == 1
    assert set(acted) == {(num_envs, 4)}
    assert clock.begun_at - 228 < num_envs
    assert clock.session_length < 15  # one push for ever: the pole falls
    batch = updates[-1]
    assert batch.observation.shape == (peers_loops.BATCH, 4)
    # CartPole falls beyond 0.2095 rad or 2.4 units, and nowhere else: no row crosses a restart.
    fallen = (abs(batch.next_observation) > [2.4, np.inf, 0.2094, np.inf]).any(axis=1)
    np.testing.assert_array_equal(fallen, batch.terminated.astype(bool))
    assert 0 < fallen.sum() < peers_loops.BATCH
    assert (abs(batch.observation) < [2.41, np.inf, 0.2096, np.inf]).all()


def rows_of_two_rounds() -> list[dict]:
    rates = {("ours", 8): (300, 200), ("slow", 1): (10, 10), ("slow", 8): (30, 10)}
    rows = [
        {"name": name, "num_envs": num_envs, "round": number, "rate": rate}
        for number in (0, 1)
        for (name, num_envs), found in rates.items()
        for rate in [float(found[number])]
    ]
    return [*rows, {"name": "gone", "num_envs": 1, "round": 0, "missing": "gone"}]


def test_peers_are_compared_within_a_round_and_at_their_best() -> None:
    slow, ours = peers_speed.summary(rows_of_two_rounds())
    assert (slow["name"], slow["num_envs"]) == ("slow", 8)
    assert slow["times_slower"] == {"median": 15.0, "low": 10.0, "high": 20.0}
    assert ours["times_slower"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert peers_speed.missing(rows_of_two_rounds()) == ["gone"]


def test_stored_peers_have_the_form_that_the_book_reads(tmp_path, capsys) -> None:
    path, picture = tmp_path / "peers.json", tmp_path / "peers.png"
    peers_speed.store(rows_of_two_rounds(), path, picture)
    content = json.loads(path.read_text())
    wanted = {"date", "machine", "versions", "settings", "missing", "summary", "rows"}
    assert set(content) == wanted
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "15.00 (10.00 to 20.00)" in printed
    assert "gone" in printed
    if peers_speed.RESULT.exists():
        stored = json.loads(peers_speed.RESULT.read_text())
        assert set(stored) == wanted
        assert stored["summary"] == peers_speed.summary(stored["rows"])


def test_the_book_shows_the_peers_as_they_were_stored(tmp_path) -> None:
    path = tmp_path / "peers.json"
    peers_speed.store(rows_of_two_rounds(), path, tmp_path / "peers.png")
    shown = speed_tables.peers(json.loads(path.read_text())).replace("\N{NO-BREAK SPACE}", " ")
    lines = [line for line in shown.splitlines() if line.startswith("| ")]
    assert lines[2:] == [
        "| ours, 8 sessions | 250 (200 to 300) | 1.0 |",
        "| slow, 8 sessions | 20 (10 to 30) | 15 (10 to 20) |",
    ]
    assert "Median and range of 2 rounds." in shown
    assert "Missing, for want of a library: gone." in shown


def test_the_stored_picture_is_drawn_from_the_stored_rates(tmp_path) -> None:
    found, path = stored("peers"), tmp_path / "peers.png"
    assert Image.open(peers_speed.PICTURE).info["Comment"] == peers_speed.checksum(found)
    found["summary"][0]["rate"]["high"] += 1.0
    peers_speed.draw(found, path)
    assert Image.open(path).info["Comment"] != peers_speed.checksum(stored("peers"))


def test_the_picture_shows_what_its_alt_text_says() -> None:
    page = (speed_tables.DATA.parent / "speed.md").read_text(encoding="utf-8")
    assert "A naive Keras loop comes last with a few transitions a second." in page
    assert "all lie between some hundreds and ten thousand, ours near the top." in page
    naive, *others = stored("peers")["summary"]
    assert naive["name"] == "naive Keras"
    assert naive["rate"]["median"] < 15
    assert all(200 < line["rate"]["median"] < 10_000 for line in others)
    assert peers_speed.OURS in [line["name"] for line in others[-3:]]


def test_a_missing_library_is_said_and_a_failure_is_no_result(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert peers_speed.run_one("torch_loop", 1, 10, 0) == {"missing": "torch"}
    broken = peers_speed.Contestant("broken", "no_such_function", 1, 10, ())
    with pytest.raises(RuntimeError, match="broken failed"):
        peers_speed.measure(broken, 0)


def test_a_contestant_that_does_not_learn_is_no_result(monkeypatch) -> None:
    found = {"rate": 1.0, "timed": 5000, "session_length": 22.0}
    monkeypatch.setattr(peers_speed, "measure", lambda contestant, seed: found)
    with pytest.raises(RuntimeError, match="does not learn"):
        peers_speed.one_round(0)
