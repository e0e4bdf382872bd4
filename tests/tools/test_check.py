"""`make test` ends with what each part found, and never green after a failure."""

import sys

import check

PASSES = [sys.executable, "-c", "print('=== 7 passed, 1 skipped in 3.00s ===')"]
FAILS = [
    sys.executable,
    "-c",
    "print('FAILED tests/a.py::test_b - assert 1 == 2'); print('=== 1 failed, 2 passed ===');"
    "raise SystemExit(1)",
]
CRASHES = [sys.executable, "-c", "raise SystemExit(3)"]


def outcome(monkeypatch, capfd, **parts: list[str]) -> tuple[int, str]:
    monkeypatch.setattr(check, "PARTS", parts)
    return check.main(), capfd.readouterr().out.partition("--- in all\n")[2]


def test_the_last_line_counts_the_tests_of_all_parts(monkeypatch, capfd):
    code, said = outcome(monkeypatch, capfd, book=PASSES, tests=PASSES)
    assert code == 0
    assert said.splitlines()[-1].startswith("All is well: 14 passed, 2 skipped in ")


def test_a_failed_test_is_named_again_at_the_end_and_the_parts_after_it_run(monkeypatch, capfd):
    code, said = outcome(monkeypatch, capfd, tests=FAILS, notebooks=PASSES)
    assert code == 1
    assert said.startswith("FAILED tests/a.py::test_b - assert 1 == 2\n")
    assert said.splitlines()[-1].startswith("FAILED: 1 failed, 9 passed, 1 skipped in ")


def test_a_part_that_ends_without_a_word_has_failed_and_without_a_book_no_test_runs(
    monkeypatch, capfd
):
    code, said = outcome(monkeypatch, capfd, book=CRASHES, tests=PASSES)
    assert code == 1
    assert "FAILED book" in said
    assert "passed" not in said
