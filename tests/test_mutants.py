"""The table of planted faults fits the package as it is: `make mutants` tries them all."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import mutants  # noqa: E402

MODULES = list(mutants.table())


def test_every_module_that_learns_simulates_or_estimates_is_in_the_table():
    others = {
        "__init__", "experiments", "plotting", "progress", "standard", "studies",
    }  # fmt: skip
    package = {path.stem for path in (ROOT / "dqnrec_lite").glob("*.py")}
    assert package - others == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_every_fault_can_be_planted_and_is_python(module):
    chosen, drawn = mutants.chosen_faults(module), mutants.drawn_faults(module)
    assert len(drawn) == mutants.DRAWN
    source = mutants.source_of(module)
    for fault in chosen + drawn:
        compile(fault.source, fault.what, "exec")
        assert fault.source != source
    names = [fault.what for fault in chosen + drawn]
    assert len(set(names)) == len(names)
    reasons = mutants.table()[module].get("same", [])
    assert {what for what, _ in reasons} <= set(names), "a reason for a fault that is not planted"


def test_every_module_has_tests_that_look_at_it_first_and_all_others_after_them():
    for module in MODULES:
        first, rest = mutants.unit_tests(module)
        for name in first + rest:
            assert (ROOT / "tests" / f"test_{name}.py").is_file()
        assert len(set(first + rest)) == len(first + rest)
        assert {"agent", "hostile", "learning"} <= set(first + rest)


def test_a_changed_place_is_changed_and_told():
    import ast

    source = "def f(a, b):\n    b += 1\n    return a.max() if a < 2.0 and b else -b * True\n"
    told = []
    for at in range(sum(1 for _ in mutants.places(ast.parse(source)))):
        tree = ast.parse(source)
        if change := mutants.changed(list(mutants.places(tree))[at]):
            told.append(change)
            assert ast.unparse(tree) != ast.unparse(ast.parse(source))
    assert sorted(told) == sorted(
        ["Add becomes Sub", "1 becomes 2", "condition turned round", "And becomes Or",
         "Lt becomes LtE", "2.0 becomes 3.0", "max becomes min", "Mult becomes Div",
         "minus becomes plus", "True becomes False"]
    )  # fmt: skip
