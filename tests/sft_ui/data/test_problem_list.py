"""The list of problems: worst first, links to rows, choices of fixes, one button."""

from sft_ui.data.report import SHOWN_ROWS, SWITCH_WORDS, problem_list, summary
from trainer_backend.data.store.versions import SWITCHES
from trainer_backend.errors import Problem

ROWS = tuple(range(1, 13))
PROBLEMS = [
    Problem("info", "Info.", "f", "x", (4,), 1, "white_space", ("trim",)),
    Problem("error", "Error.", "f.csv", "x"),
    Problem("warning", "Twice.", "f", "x", ROWS, 4_000, "duplicates", ("keep_one", "drop")),
]


def test_errors_come_first_and_keep_the_index_of_their_rows():
    html = problem_list(PROBLEMS)
    assert html.index("Error.") < html.index("Twice.") < html.index("Info.")
    assert 'data-problem="2"' in html and 'data-problem="0"' in html
    assert summary(PROBLEMS) == "1 must be fixed, 1 worth a look, 1 good to know"


def test_a_finding_says_how_many_rows_and_which():
    html = problem_list([PROBLEMS[2]])
    assert "4,000 rows" in html and f"and {4_000 - SHOWN_ROWS:,} more" in html
    assert html.count("data-jump") == SHOWN_ROWS


def test_only_what_matters_is_switched_on_before_the_user_looks():
    html = problem_list(PROBLEMS)
    assert 'value="keep_one" selected' in html and 'value="trim" selected' not in html
    assert html.count("data-clean") == 1


def test_without_a_fix_there_is_no_button_and_without_findings_all_is_good():
    assert "data-clean" not in problem_list([PROBLEMS[1]])
    assert "No problems found" in problem_list([])


def test_every_safe_fix_has_words():
    assert set(SWITCH_WORDS) == set(SWITCHES)
