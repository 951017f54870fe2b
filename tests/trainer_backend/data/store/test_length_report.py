"""A stored report of token counts gives the findings of the counting it was saved after."""

import numpy as np

from trainer_backend.data.checks.control import SPELLED
from trainer_backend.data.store.length_report import LengthReport, stored_report


def test_a_stored_report_finds_what_the_counting_found(tmp_path):
    counts = [np.array(values, np.int32) for values in ([9, 40], [3, 30], [9, 40], [6, 10])]
    rows, content = np.array([1, 2]), np.array([0, SPELLED])
    counted = LengthReport(rows, *counts, failures=[(3, "no user turn")], content=content, key="a1")
    counted.save(tmp_path)
    stored = stored_report(tmp_path, "a1")
    found = [one.problems(20, "rows.csv") for one in (counted, stored)]
    codes = [[(problem.code, problem.rows) for problem, _ in problems] for problems in found]
    assert codes[0] == codes[1] and "model_tokens" in [code for code, _ in codes[1]]
