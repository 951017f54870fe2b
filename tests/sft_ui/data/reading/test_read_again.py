"""Reading an upload again with other options."""

import time

import openpyxl
import pytest

from sft_ui.data.reading.readings import Readings, chosen, shown_again
from trainer_backend.errors import UserError


@pytest.fixture
def readings(home):
    return Readings(home)


def read(readings, path, **how):
    reading = readings.read([path], **how)
    wait(readings, reading)
    return reading


def wait(readings, reading):
    for _ in range(1200):
        if readings.watch(reading)["state"] != "reading":
            return
        time.sleep(0.05)
    raise AssertionError("the reading does not end")


def workbook(path):
    book = openpyxl.Workbook()
    for name, answer in (("Old", "no"), ("New", "yes")):
        sheet = book.create_sheet(name)
        sheet.append(["prompt", "response"])
        for number in range(20):
            sheet.append([f"Question {number}", f"{answer} {number}"])
    del book["Sheet"]
    book.save(path)
    return path


def test_another_sheet_of_a_workbook_can_be_read(readings, tmp_path):
    reading = read(readings, workbook(tmp_path / "two.xlsx"))
    assert readings.result(reading).page(0, 1)[0][0][1]["response"] == "no 0"
    box, known, encoding, delimiter, sheet = shown_again(readings, reading)
    assert box["visible"] and known == reading
    assert encoding["visible"] is False and delimiter["visible"] is False
    assert [value for _, value in sheet["choices"]] == ["", "Old", "New"]
    again = readings.again(reading, chosen("", "", "New", False))
    wait(readings, again)
    assert readings.result(again).page(0, 1)[0][0][1]["response"] == "yes 0"


def test_an_unreadable_file_can_be_read_with_other_options(readings, tmp_path):
    (tmp_path / "cyrillic.csv").write_bytes("prompt,response\nкто?,никто\n".encode("cp1251"))
    reading = read(readings, tmp_path / "cyrillic.csv")
    with pytest.raises(UserError) as caught:
        readings.result(reading)
    box, _, encoding, *_ = shown_again(readings, reading)
    assert box["visible"] and encoding["visible"]
    offered = "кто?".encode("cp1251").decode(caught.value.offer["encoding"])
    assert readings.instead(reading)[0][1]["prompt"] == offered
    again = readings.again(reading, chosen("cp1251", "", "", False))
    wait(readings, again)
    assert readings.result(again).page(0, 1)[0][0][1] == {"prompt": "кто?", "response": "никто"}


def test_what_an_upload_is_comes_from_the_process_that_reads_it(readings, tmp_path):
    rows = "".join(f"a{n},{n}\n" for n in range(30))
    (tmp_path / "a.csv").write_text("prompt,response\n" + rows + "one,two,three\n")
    reading = read(readings, tmp_path / "a.csv")
    assert readings.opened(reading).kind == "csv" and readings.opened(reading).sheets == []
    assert readings.instead(reading)[0] == (1, {"prompt": "a0", "response": "0"})
    (tmp_path / "a.csv").unlink()
    assert readings.opened(reading) is None


def test_work_on_stored_data_has_no_file_to_read_again(readings):
    assert shown_again(readings, "no-such")[0]["visible"] is False


def test_an_option_must_be_chosen():
    with pytest.raises(UserError, match="Choose at least one option"):
        chosen("", "", "", False)
    assert chosen("latin-1", "", "", True) == {"encoding": "latin-1", "skip_damaged": True}
