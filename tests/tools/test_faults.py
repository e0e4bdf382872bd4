"""The table of faults fits the code as it stands, and the stored result is of the whole table."""

import json

import faults
import pytest

TABLE = faults.table()


@pytest.mark.parametrize("file", dict.fromkeys(fault.file for fault in TABLE))
def test_each_right_text_stands_once_and_the_wrong_one_is_python(file):
    source = (faults.ROOT / file).read_text(encoding="utf-8")
    for fault in TABLE:
        if fault.file == file:
            assert source.count(fault.right) == 1, fault.what
            assert fault.wrong != fault.right
            compile(source.replace(fault.right, fault.wrong), file, "exec")


def test_the_stored_result_is_of_the_faults_in_the_table():
    rows = json.loads(faults.RESULT.read_text(encoding="utf-8"))["faults"]
    assert [(row["file"], row["what"]) for row in rows] == [(f.file, f.what) for f in TABLE]
