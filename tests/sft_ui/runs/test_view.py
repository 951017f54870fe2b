"""The table of runs: filters, order, score, notes; and that unchanged runs are not read again."""

import os

import pytest
from compared_runs import check_answers_as_before, evaluate, finished_run
from run_files import set_state

from sft_ui.runs import listing
from sft_ui.runs.listing import listed_rows
from sft_ui.runs.score import score_of
from sft_ui.runs.table import LARGEST_FIRST, runs_table
from sft_ui.runs.view import View, all_tags, next_sort, shown_rows
from trainer_backend.evaluation import results
from trainer_backend.evaluation.results import best_head
from trainer_backend.runs.notes import write_notes


@pytest.fixture
def runs(home, dataset):
    """Low and high with an evaluation, an old one with its answer check, a bare one."""
    low = finished_run(home, dataset, "Low", [2.0, 1.0], {2: 1.5})
    high = finished_run(home, dataset, "High", [2.0, 0.5], {2: 0.75})
    old = finished_run(home, dataset, "Old", [1.0])
    bare = finished_run(home, dataset, "Bare", [3.0], {1: 2.5})
    evaluate(low, right={1})
    evaluate(high, right={1, 2, 3})
    check_answers_as_before(old, right={1, 2})
    write_notes(low.dir, "Keep this one", "Baseline")
    return {"Low": low, "High": high, "Old": old, "Bare": bare}


def names(home, *view):
    return [row.summary["name"] for row in shown_rows(listed_rows(home), View(*view))]


@pytest.mark.parametrize(
    "view, found",
    [
        (("keep one",), ["Low"]),
        (("baseline",), ["Low"]),
        (("sixty",), ["Bare", "Old", "High", "Low"]),
        (("", "live"), []),
        (("", "finished"), ["Bare", "Old", "High", "Low"]),
        (("", "", "baseline"), ["Low"]),
        (("", "", "", "-score"), ["High", "Old", "Low", "Bare"]),
        (("", "", "", "eval_loss"), ["High", "Low", "Bare", "Old"]),
        (("", "", "", "name"), ["Bare", "High", "Low", "Old"]),
    ],
)
def test_filters_and_order(home, runs, view, found):
    assert names(home, *view) == found


def test_a_run_is_found_by_its_id(home, runs):
    assert names(home, runs["Old"].id[-6:]) == ["Old"]


def test_states_are_filtered_as_the_page_calls_them(home, runs):
    set_state(runs["Low"], state="paused")
    set_state(runs["Old"], state="running")
    assert names(home, "", "stopped") == ["Low"] and names(home, "", "live") == ["Old"]


def test_a_score_is_the_main_measure_the_old_check_or_the_eval_loss(runs):
    shown = {name: (score_of(run).text, score_of(run).mark) for name, run in runs.items()}
    assert shown == {
        "Low": ("25% exact", "▲"),
        "High": ("75% exact", "▲"),
        "Old": ("50% exact", ""),
        "Bare": ("eval loss 2.5", ""),
    }


def test_the_table_sorts_ticks_and_shows_notes_as_text(home, runs, hostile):
    write_notes(runs["High"].dir, hostile, "good")
    table = runs_table(listed_rows(home), "", View(sort="-score"))
    assert 'aria-sort="descending"' in table and "▲" in table and "Baseline" in table
    assert table.count("data-tick=") == 4 and "<script>" not in table
    assert all_tags(listed_rows(home)) == ["Baseline", "good"]
    assert "No run matches" in runs_table([], "", View("nothing like it"))


def test_a_press_turns_the_order():
    assert next_sort("-started", "score", LARGEST_FIRST) == "-score"
    assert next_sort("-score", "score", LARGEST_FIRST) == "score"
    assert next_sort("score", "name", LARGEST_FIRST) == "name"


def test_what_has_not_changed_is_not_read_again(home, runs, monkeypatch):
    for run in runs.values():
        for folder in (run.dir, run.dir / "evaluations"):
            if folder.exists():
                os.utime(folder, (1_000_000, 1_000_000))
    listed_rows(home)
    read = []
    monkeypatch.setattr(listing, "_row", lambda run: read.append(run.id))
    listed_rows(home)
    assert read == []
    write_notes(runs["Low"].dir, "changed", "")
    listed_rows(home)
    assert read == [runs["Low"].id]


def test_a_list_reads_heads_without_the_rows(runs, monkeypatch):
    read = []
    monkeypatch.setattr(results, "read_json", lambda path, *_: (read.append(path.name), {})[1])
    results._head.cache_clear()
    best_head(runs["Low"])
    results._head.cache_clear()
    assert len(read) == 1 and read[0].startswith("head-eval-")
