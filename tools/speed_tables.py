"""The tables of book/speed.md and book/tested.md, made from what is stored in book/data.

They are made when the book is built, so that no figure on the page can differ from the stored one.
"""

from collections.abc import Callable
from datetime import date
from itertools import groupby
from typing import Any

from stored import ROOT, short

Result = dict[str, Any]
DATA = ROOT / "book" / "data"


def with_range(spread: dict[str, float]) -> str:
    """Median and range, which no line breaks; the median alone where they are the same."""
    median, low, high = (short(spread[key]) for key in ("median", "low", "high"))
    return (
        median if low == high else f"{median} ({low}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high})"
    )


def origin(result: Result) -> str:
    """When, on what and with which versions."""
    day = date.fromisoformat(result["date"])
    machine = result["machine"]
    used = [f"Python {machine['python']}"]
    used += [" ".join(pair) for pair in result["versions"].items()]
    return (
        f"Measured on {day.day} {day:%B %Y}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['system']}; {', '.join(used)}."
    )


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table; all columns but the first are set to the right."""
    align = [":--"] + ["--:"] * (len(head) - 1)
    return ["", *(f"| {' | '.join(cells)} |" for cells in (head, align, *rows)), ""]


def peers(result: Result) -> str:
    """Other libraries, the fastest first as in the picture; what they had in common."""
    rows = [
        [
            f"{line['name']}, {line['num_envs']} session{'s' if line['num_envs'] > 1 else ''}",
            with_range(line["rate"]),
            with_range(line["times_slower"]),
        ]
        for line in reversed(result["summary"])
    ]
    head = ["Contestant", "Transitions a second", "Ours is faster, times"]
    common, gone = result["settings"], ", ".join(result["missing"])
    rounds = len({row["round"] for row in result["rows"]})
    lines = [
        f"Median and range of {rounds} rounds. Task {common['task']}; hidden layers of "
        f"{' and '.join(map(str, common['hidden_sizes']))}; minibatches of {common['batch_size']}; "
        f"{common['updates_per_transition']} gradient step a transition; replay of "
        f"{common['buffer_size']:,}; {common['optimizer']}, learning rate "
        f"{common['learning_rate']}; discount {common['discount']}; target network copied every "
        f"{common['target_sync_every']} updates.",
        f"Missing, for want of a library: {gone}." if gone else "No contestant is missing.",
        "",
        origin(result),
    ]
    return "\n".join([*table(head, rows), *lines])


def bench(result: Result) -> str:
    """Our own parts, one table for each group, with their share of the NumPy floor."""
    lines = []
    for group, members in groupby(result["rows"], key=lambda row: row["group"]):
        rows = list(members)
        lines += ["", f"**{group[0].upper()}{group[1:]}; {len(rows[0]['runs'])} rounds**"]
        head = ["Part", "Rate"]
        cells = [[row["name"], f"{with_range(row)} {row['unit']}"] for row in rows]
        if any("share_of_floor" in row for row in rows):
            head.append("% of NumPy's rate")
            for row, line in zip(rows, cells, strict=True):
                share = {key: 100 * value for key, value in row.get("share_of_floor", {}).items()}
                line.append(with_range(share) if share else "")
        lines += table(head, cells)
        lines += [
            f"A {row['name'].partition(', ')[2]} update costs {with_range(row['times_cost'])} "
            "times a uniform one."
            for row in rows
            if "times_cost" in row
        ]
        compiled = [
            f"{row['name'].partition(', ')[2]} {row['compile_seconds']:.1f} s"
            for row in rows
            if "compile_seconds" in row
        ]
        if compiled:
            lines += [f"Compiling comes before, once: {', '.join(compiled)}."]
    return "\n".join([*lines, "", origin(result)])


def notebooks(result: Result) -> str:
    """Run time of each notebook, and their sum."""
    seconds = result["seconds"]
    rows = [[f"{{doc}}`/notebooks/{name}`", f"{took} s"] for name, took in seconds.items()]
    minutes, rest = divmod(sum(seconds.values()), 60)
    rows.append(["**All of them**", f"**{minutes} min {rest} s**"])
    return "\n".join([*table(["Chapter", "Run time"], rows), origin(result)])


def faults(result: Result) -> str:
    """How many planted faults the tests noticed, file by file, and which they did not."""
    lines = []
    for file, group in groupby(result["faults"], key=lambda row: row["file"]):
        rows = list(group)
        lines.append(
            [f"`{file}`", str(len(rows)), str(sum(bool(row["caught_by"]) for row in rows))]
        )
    rows = result["faults"]
    missed = [f"`{row['file']}`: {row['what']}" for row in rows if not row["caught_by"]]
    verdict = f"{len(rows) - len(missed)} of {len(rows)} planted faults were caught."
    if missed:
        verdict += f" Not caught: {'; '.join(missed)}."
    return "\n".join([verdict, *table(["File", "Faults", "Caught"], lines), origin(result)])


TABLES: dict[str, Callable[[Result], str]] = {
    "peers": peers,
    "bench": bench,
    "notebooks": notebooks,
    "faults": faults,
}
