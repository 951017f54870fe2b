"""The report of a dataset: totals, versions, downloads, and unclear columns."""

from sft_ui.data import report
from trainer_backend.data.store.dataset import list_datasets, open_dataset
from trainer_backend.data.store.uploads import create_from_rows, remap_dataset
from trainer_backend.data.store.versions import apply_fixes, edit_rows


def test_totals_say_what_is_held_out(dataset):
    html = report.report(dataset, 6, 0.1)
    for said in ("<b>60</b> <span>usable examples", "<b>54</b>", "held out, 10% requested"):
        assert said in html
    assert html.count("download>") == 3 and f"studio/datasets/{dataset.id}/csv" in html


def test_without_data_it_says_what_to_do():
    assert "No data yet" in report.report(None, 0, 0)


def test_unclear_columns_are_asked_for_once(home):
    rows = [{"left": f"l{n}", "right": f"r{n}"} for n in range(30)]
    dataset = create_from_rows(home, rows, name="Unclear")
    html = report.report(dataset, 0, 0.1)
    assert html.count("could mean more than one thing") == 1 and "Findings" not in html
    assert "usable examples" not in html and "download" not in html


def test_every_version_can_be_reached_from_every_other(home, dataset):
    edited = edit_rows(home, dataset.id, edits={1: {"response": "Better"}}, drops=[2])
    other = edit_rows(home, dataset.id, drops=[3])
    last = edit_rows(home, edited.id, drops=[4])
    create_from_rows(home, [{"prompt": "a", "response": "b"}], name="Another")
    stored = list_datasets(home)
    for one in (dataset, edited, other, last):
        found = report.family(open_dataset(home, one.id), stored)
        assert {step["id"] for step in found} == {dataset.id, edited.id, other.id, last.id}
        assert [step["id"] for step in found if step["here"]] == [one.id]
    assert found[0]["what"] == "Upload" and found[-1]["id"] == last.id
    assert report.version_line(found).count("data-open") == 4
    assert report.version_line(found[:1]) == ""


def test_a_cleaned_version_shows_what_was_done(home):
    rows = [{"prompt": f"p{n % 5}", "response": f"r{n % 5}"} for n in range(30)]
    dataset = create_from_rows(home, rows, name="Twice")
    cleaned = apply_fixes(home, dataset.id, {"duplicates": "keep_one"})
    html = report.report(cleaned, 1, 0.1, report.family(cleaned, list_datasets(home)))
    assert "1 · Upload · 30 rows" in html and "2 · Fixes · 5 rows" in html
    assert 'title="25 rows left out' in html


def test_preference_data_offers_one_button(home):
    rows = [{"prompt": f"Name {n}", "chosen": f"It is {n}.", "rejected": "No."} for n in range(30)]
    dataset = create_from_rows(home, rows, name="Pairs of answers")
    html = report.report(dataset, 0, 0.1)
    assert html.count('id="train-on-chosen"') == 1
    assert "Train on the chosen answers with one click" in html
    assert "--chosen" not in html and "terminal" not in html, "the page has a button for it"
    chosen = remap_dataset(home, dataset.id, dataset.chosen)
    html = report.report(chosen, 0, 0.1)
    assert "train-on-chosen" not in html and "answer from “chosen”. Not used: “rejected”" in html
    unclear = create_from_rows(home, [{"left": "a", "right": "b"}], name="Unclear")
    assert "train-on-chosen" not in report.report(unclear, 0, 0.1)
