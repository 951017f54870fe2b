"""A stored report of token counts gives the findings of the counting it was saved after."""

import numpy as np

from trainer_backend.data.checks.control import SPELLED
from trainer_backend.data.store.length_report import LengthReport, read_report, stored_report


def test_a_stored_report_finds_what_the_counting_found(tmp_path):
    counts = [np.array(values, np.int32) for values in ([9, 40], [3, 30], [9, 40], [6, 10])]
    rows, content = np.array([1, 2]), np.array([0, SPELLED])
    counted = LengthReport(rows, *counts, failures=[(3, "no user turn")], content=content, key="a1")
    counted.save(tmp_path)
    stored = stored_report(tmp_path, "a1")
    found = [one.problems(20, "rows.csv") for one in (counted, stored)]
    codes = [[(problem.code, problem.rows) for problem, _ in problems] for problems in found]
    assert codes[0] == codes[1] and "model_tokens" in [code for code, _ in codes[1]]


def test_rows_whose_end_is_kept_lose_what_stands_before(tmp_path):
    """Of 10 tokens, 2 to 4 are learned in the first row and 7 to 9 in the second."""
    counts = [np.array(values, np.int32) for values in ([10, 10], [2, 7], [5, 10], [3, 3])]
    LengthReport(np.array([1, 2]), *counts, content=np.array([0, 0]), key="b2").save(tmp_path)
    start = read_report(tmp_path, "b2")
    end = start.kept("keep_end")
    assert start.kept("keep_start") is start and end.kept("keep_end") is end
    assert (start.at(4).lost, start.at(4).trained) == (1, 2)  # tokens 0 to 3
    assert (end.at(4).lost, end.at(4).trained) == (1, 3)  # tokens 6 to 9
    assert end.at(3).trained == 2 and end.at(10).trained == 6  # the first token is not predicted
    found = {
        name: {p.code: (p.rows, p.fix) for p, _ in read_report(tmp_path, name).problems(4, "a")}
        for name in (start.name, end.name)
    }
    assert list(found["b2"]["no_answer_left"][0]) == [2]
    rows, fix = found["b2-end"]["no_answer_left"]
    assert list(rows) == [1] and "end 7 tokens before the end" in fix
