"""Readings: started, watched, repeated with other options, cancelled, forgotten."""

import time

import pytest

from sft_ui.data.reading.readings import Readings, failure, offer_words, spoken_name, taken
from trainer_backend.errors import UserError


@pytest.fixture
def readings(home):
    return Readings(home)


def write(path, rows=40, encoding="utf-8"):
    lines = ["prompt,response", *(f"Wie heißt {n}?,Käse {n}" for n in range(rows))]
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def wait(readings, reading, seconds=60):
    for _ in range(seconds * 20):
        answer = readings.watch(reading)
        if answer["state"] != "reading":
            return answer["state"]
        time.sleep(0.05)
    raise AssertionError("the reading does not end")


def test_case_47_latin1_is_offered_with_a_preview_and_read_by_one_button(readings, tmp_path):
    reading = readings.read([write(tmp_path / "latin.csv", encoding="latin-1")])
    assert wait(readings, reading) == "over"
    with pytest.raises(UserError) as caught:
        readings.result(reading)
    html = failure(readings, reading, caught.value)
    assert "Read as" in html and "data-offer" in html and "Wie heißt 0?" in html
    again = readings.again(reading, {"encoding": caught.value.offer["encoding"]})
    assert wait(readings, again) == "over"
    assert dict(readings.result(again).page(0, 1)[0])[1]["response"] == "Käse 0"


def test_a_reading_is_watched_and_cancelled(readings, tmp_path):
    reading = readings.read([write(tmp_path / "long.csv", rows=200_000)])
    assert readings.watch(reading)["state"] == "reading"
    readings.cancel(reading)
    assert wait(readings, reading) == "over"
    with pytest.raises(UserError, match="cancel"):
        readings.result(reading)


def test_an_unknown_reading_is_gone(readings):
    assert readings.watch("no-such") == {"state": "gone"}
    assert readings.watch(None)["state"] == "gone"
    readings.cancel({"a": 1})
    for ask in (readings.result, lambda one: readings.again(one, {"skip_damaged": True})):
        with pytest.raises(UserError):
            ask("no-such")


def test_nothing_is_read_without_a_file(readings):
    with pytest.raises(UserError, match="No file was chosen"):
        readings.read([])


@pytest.mark.parametrize("offer", [{}, {"retry": {"max_steps": 3}}, {"encoding": "x", "home": "/"}])
def test_only_read_options_are_taken_from_an_offer(offer):
    with pytest.raises(UserError, match="unknown"):
        taken(offer)


def test_words_of_offers_and_names(tmp_path):
    assert offer_words({"skip_damaged": True}) == "Skip damaged rows"
    assert offer_words({"encoding": "latin-1"}) == "Read as Western European (Latin-1)"
    files = [tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"]
    assert spoken_name(files) == "a.csv and 2 more" and spoken_name(files[:1]) == "a.csv"


def test_an_error_without_an_offer_has_no_button(readings):
    html = failure(readings, "x", UserError("What <b>", "where", "fix", offer={"retry": {"a": 1}}))
    assert "data-offer" not in html and "What &lt;b&gt;" in html
