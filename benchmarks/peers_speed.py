"""Training speed beside other DQNs, in turn on one machine (`make bench-peers PEERS=speed`).

Each contestant runs in a process of its own. A round runs all of them once, so that a machine that
slows down slows all of them; ratios are taken within a round. Writes `book/data/peers.json` and the
picture `book/_static/peers.png`. A contestant whose library is missing is said to be missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import peers_loops as loops
from measuring import ROOT, short, spread, versions, write

RESULT, PICTURE = ROOT / "book/data/peers.json", ROOT / "book/_static/peers.png"
ROUNDS = 5
LEARNT = 40  # transitions to a session's end; random pushes make 22
ENOUGH = 2_000  # transitions after which a loop that works is above LEARNT


class Contestant(NamedTuple):
    name: str
    function: str  # in `peers_loops`
    num_envs: int
    transitions: int  # that are timed: some five seconds
    packages: tuple[str, ...]


KERAS, TORCH, JAX, SB3 = ("tensorflow", "keras"), ("torch",), ("jax", "optax"), "stable-baselines3"
CONTESTANTS = [
    Contestant("naive Keras", "naive_keras", 1, 30, KERAS),
    Contestant("careful Keras", "careful_keras", 1, 3_000, KERAS),
    Contestant("careful Keras", "careful_keras", 8, 3_000, KERAS),
    Contestant("Stable-Baselines3", "stable_baselines", 1, 2_500, (SB3, *TORCH)),
    Contestant("Stable-Baselines3", "stable_baselines", 8, 3_000, (SB3, *TORCH)),
    Contestant("CleanRL-style, PyTorch", "cleanrl_torch", 1, 3_000, (SB3, *TORCH)),
    Contestant("CleanRL-style, JAX", "cleanrl_jax", 1, 5_000, (SB3, *JAX)),
    Contestant("lean loop, PyTorch", "torch_loop", 8, 6_000, TORCH),
    Contestant("lean loop, JAX", "jax_loop", 8, 12_000, JAX),
    Contestant("ours", "ours", 8, 15_000, KERAS),
    Contestant("ours, Double DQN", "ours_double", 8, 12_000, KERAS),
]
OURS = "ours"


def measure(contestant: Contestant, seed: int) -> dict[str, Any]:
    """One run in a process of its own: its row, or {"missing": module}."""
    command = [sys.executable, __file__, "--one", contestant.function]
    command += [str(contestant.num_envs), str(contestant.transitions), str(seed)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{contestant.name} failed:\n{ran.stderr[-3000:]}")
    return json.loads(ran.stdout.splitlines()[-1])


def run_one(function: str, num_envs: int, transitions: int, seed: int) -> dict[str, Any]:
    """In the contestant's process: run it and say what came out."""
    try:
        clock = getattr(loops, function)(num_envs, transitions, seed)
    except ModuleNotFoundError as error:
        return {"missing": error.name}
    timed = clock.done - clock.begun_at
    return {"rate": clock.rate, "timed": timed, "session_length": clock.session_length}


def one_round(number: int) -> list[dict[str, Any]]:
    """All contestants once; number is the seed too."""
    rows = []
    for contestant in CONTESTANTS:
        found = measure(contestant, seed=number)
        sessions = f"{contestant.num_envs} session{'s' if contestant.num_envs > 1 else ''}"
        row = {"name": contestant.name, "num_envs": contestant.num_envs, "round": number, **found}
        said = f"{contestant.name}, {sessions}:"
        if "missing" in found:
            print(f"  {said:36s} missing, there is no module {found['missing']!r}", flush=True)
        else:
            length = f"sessions of {found['session_length']:.0f} steps at the end"
            print(f"  {said:36s} {found['rate']:8,.1f} transitions/s, {length}", flush=True)
            if found["timed"] >= ENOUGH and found["session_length"] < LEARNT:
                raise RuntimeError(f"{said} does not learn: {length}, {LEARNT} expected")
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each name its better number of sessions: rates, and how many times faster ours is.

    A ratio is taken within a round; its median and range are over the rounds.
    """
    rates: dict[tuple[str, int], dict[int, float]] = {}
    for row in rows:
        if "rate" in row:
            rates.setdefault((row["name"], row["num_envs"]), {})[row["round"]] = row["rate"]
    best: dict[str, tuple[float, int]] = {}
    for (name, num_envs), found in rates.items():
        middle = spread(list(found.values()))["median"]
        best[name] = max(best.get(name, (0.0, 0)), (middle, num_envs))
    base = rates[OURS, best[OURS][1]]
    lines = []
    for name, (_, num_envs) in best.items():
        found = rates[name, num_envs]
        ratios = [base[number] / rate for number, rate in found.items()]
        rate, ratio = spread(list(found.values())), spread(ratios)
        lines.append({"name": name, "num_envs": num_envs, "rate": rate, "times_slower": ratio})
    return sorted(lines, key=lambda line: line["rate"]["median"])


def missing(rows: list[dict[str, Any]]) -> list[str]:
    return sorted({row["name"] for row in rows if "missing" in row})


def table(result: dict[str, Any]) -> str:
    """The summary as text."""
    text = [f"{'':24s}sessions  transitions/s (range)      how many times faster ours is (range)"]
    for line in result["summary"]:
        rate, ratio = line["rate"], line["times_slower"]
        figures = "{} ({} to {})".format(*map(short, rate.values()))
        times = f"{ratio['median']:7.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        text.append(f"{line['name']:24s}{line['num_envs']:8d}  {figures:25s}{times}")
    text += [f"{name:24s} missing" for name in result["missing"]]
    return "\n".join(text)


def checksum(result: dict[str, Any]) -> str:
    """Of the summary, which is what the picture shows."""
    return hashlib.sha256(json.dumps(result["summary"]).encode()).hexdigest()


def draw(result: dict[str, Any], path: Path) -> None:
    """Rates on a logarithmic axis, each with its range over the rounds and its ratio to ours.

    The file says which figures it shows, by their checksum.
    """
    import matplotlib.pyplot as plt

    from dqnrec_lite.plotting import COLORS, use_house_style

    use_house_style()
    lines = result["summary"]
    figure, axes = plt.subplots(figsize=(6.5, 0.46 * len(lines) + 0.9))
    for place, line in enumerate(lines):
        rate, own = line["rate"], line["name"].startswith(OURS)
        color = COLORS["blue"] if own else COLORS["black"]
        weight = "bold" if line["name"] == OURS else "normal"
        axes.plot([1, rate["median"]], [place, place], color="#d1d5db", linewidth=1, zorder=0)
        axes.plot([rate["low"], rate["high"]], [place, place], color=color, linewidth=3)
        axes.plot(rate["median"], place, "o", color=color, markersize=8)
        label = short(rate["median"])
        if line["name"] != OURS:
            label += f"   ours: {short(line['times_slower']['median'])} times"
        axes.text(rate["high"] * 1.3, place, label, va="center", color=color, fontweight=weight)
    axes.set_yticks(range(len(lines)), [line["name"] for line in lines], fontsize=12)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xscale("log")
    axes.set_xlim(1, 300 * max(line["rate"]["high"] for line in lines))
    axes.set_xticks([1, 10, 100, 1_000, 10_000], ["1", "10", "100", "1,000", "10,000"])
    axes.minorticks_off()
    axes.set_xlabel("training: transitions a second, each with a gradient step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, metadata={"Comment": checksum(result)})
    plt.close(figure)


def settings() -> dict[str, Any]:
    """What all contestants have in common."""
    return {
        "task": loops.TASK,
        "hidden_sizes": loops.HIDDEN,
        "batch_size": loops.BATCH,
        "buffer_size": loops.BUFFER,
        "updates_per_transition": 1,
        "optimizer": "Adam",
        "learning_rate": loops.LEARNING_RATE,
        "discount": loops.DISCOUNT,
        "target_sync_every": loops.SYNC_EVERY,
    }


def result_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    packages = {package for contestant in CONTESTANTS for package in contestant.packages}
    return {
        "versions": versions("numpy", "gymnasium", *sorted(packages)),
        "settings": settings(),
        "missing": missing(rows),
        "summary": summary(rows),
        "rows": rows,
    }


def store(rows: list[dict[str, Any]], path: Path = RESULT, picture: Path = PICTURE) -> None:
    result = result_of(rows)
    write(path, result)
    draw(result, picture)
    print(table(result))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--one", nargs=4, help="function, sessions, transitions, seed: run it here")
    options = parser.parse_args()
    if options.one:
        function, *numbers = options.one
        print(json.dumps(run_one(function, *map(int, numbers))))
        return 0
    print(f"Training on {loops.TASK}, one gradient step a transition, batch {loops.BATCH}.")
    rows, start = [], time.perf_counter()
    for number in range(options.rounds):
        print(f"Round {number + 1} of {options.rounds}", flush=True)
        rows += one_round(number)
    store(rows)
    print(f"Stored in {RESULT.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}", end="; ")
    print(f"{time.perf_counter() - start:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
