"""The card of the estimate: a verdict in words, the parts as a bar, and the settings that fit."""

from dataclasses import replace

import pytest

from sft_ui.model.cards import estimating
from sft_ui.model.cards.estimate_card import PARTS, estimate_card, fits_word, shown_parts
from trainer_backend.errors import UserError
from trainer_backend.estimation import Estimate, Range
from trainer_backend.estimation.words import duration_range, gigabyte_range, gigabytes, verdict
from trainer_backend.hardware import Hardware
from trainer_backend.recipe.recipe import Recipe

CPU = Hardware("cpu", "CPU", 1, 24.0, 16.0, 2, False)
SIZES = (2.0, 0.1, 0.2, 0.1, 1.0, 0.5, 0.001)
FITS = Estimate(
    fits=True,
    memory_gb=Range(3.5, 3.9, 4.4),
    parts=dict(zip(PARTS, SIZES, strict=True)),
    memory_free_gb=16.0,
    steps=1_234,
    tokens=98_765,
    seconds=Range(130, 200, 290),
    download_gb=0.25,
    disk_gb=1.5,
    based_on="the speed of 3 earlier runs",
)
TOO_LARGE = replace(
    FITS,
    fits=False,
    memory_gb=Range(20, 24, 29),
    fix={"adapter": "lora", "per_device_train_batch_size": 1},
    notes=["It fits with “Method” to LoRA and “Batch size” to 1.", "The data is guessed."],
)
UNKNOWN = replace(
    FITS, fits=None, memory_gb=None, parts={}, seconds=None, download_gb=None, notes=["No sizes."]
)


@pytest.mark.parametrize(
    "found, fits, words",
    [
        (FITS, "yes", "Fits this machine"),
        (replace(FITS, memory_free_gb=4.0), "yes", "Tight on this machine"),
        (TOO_LARGE, "no", "Too large for this machine"),
        (UNKNOWN, "unknown", "Memory is not known yet"),
        (None, "unknown", "No estimate"),
    ],
)
def test_the_verdict_stands_in_words_and_for_scripts(found, fits, words):
    html = estimate_card(found, CPU)
    assert f'data-fits="{fits}"' in html and words in html and fits_word(found) == fits
    assert found is None or verdict(found) == words


def test_the_card_says_what_a_run_takes():
    html = estimate_card(FITS, CPU)
    for words in (
        *("3.5 to 4.4 GB of memory, 16 GB free", "2 to 5 minutes", "1,234", "98,765"),
        *("0.2 GB", "1.5 GB", "Largest part: Weights of the base model, 2.0 GB"),
        *("Based on the speed of 3 earlier runs.", "Time includes evaluation"),
    ):
        assert words in html, words
    assert "use-fix" not in html
    assert "GPU memory" in estimate_card(FITS, replace(CPU, kind="cuda"))


def test_the_bar_shows_the_parts_that_can_be_seen():
    assert list(shown_parts(FITS.parts)) == [name for name in PARTS if name != "other"]
    html = estimate_card(FITS, CPU)
    assert 'class="part-weights" style="width:12.50%"' in html and "part-other" not in html


def test_too_large_names_the_settings_that_fit_once():
    html = estimate_card(TOO_LARGE, CPU)
    assert html.count("“Method” to LoRA and “Batch size” to 1") == 1
    assert 'id="use-fix"' in html and "The data is guessed." in html
    without = estimate_card(replace(TOO_LARGE, fix=None), CPU)
    assert "use-fix" not in without and "smaller base model" in without


def test_texts_of_an_estimate_are_text(hostile):
    html = estimate_card(replace(UNKNOWN, based_on=hostile, notes=[hostile]), CPU)
    assert "<script>" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize(
    "low, high, words",
    [
        (1, 4, "5 seconds"),
        (12, 31, "10 to 30 seconds"),
        (50, 100, "1 to 2 minutes"),
        (61, 70, "1 minute"),
        (40 * 60, 2 * 3600, "40 minutes to 2 hours"),
        (3600, 5400, "1 to 1.5 hours"),
        (86_400, 10 * 86_400, "1 to 10 days"),
    ],
)
def test_durations_are_as_exact_as_an_estimate(low, high, words):
    assert duration_range(Range(low, (low + high) / 2, high)) == words


def test_gigabytes_are_as_exact_as_an_estimate():
    assert [gigabytes(n) for n in (0, 0.01, 0.44, 9.96, 1_234.5)] == [
        *("0.0 GB", "under 0.1 GB", "0.4 GB", "10 GB", "1,234 GB")
    ]
    assert gigabyte_range(Range(2.01, 2.02, 2.04)) == "2.0 GB"


@pytest.mark.parametrize(
    "fault", [ZeroDivisionError(), KeyError("layers"), UserError("What", "where", "fix")]
)
def test_a_broken_estimate_breaks_nothing(studio, dataset, monkeypatch, fault, caplog):
    def fail(*args, **kwargs):
        raise fault

    monkeypatch.setattr(estimating, "estimate", fail)
    assert estimating.estimate_now(studio, dataset.id, Recipe(), None) is None
    assert "The estimate failed" in caplog.text
    assert estimating.estimate_now(studio, dataset.id, None, None) is None
