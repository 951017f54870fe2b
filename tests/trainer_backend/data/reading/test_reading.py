"""Reading in a separate process: progress, first rows, errors, and crashes that spare the app."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from trainer_backend.data.formats.mapping import ColumnMapping
from trainer_backend.data.readers.options import ReadOptions
from trainer_backend.data.reading import process, reading
from trainer_backend.data.reading.reading import start_reading, start_work
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.home import write_json

LIMIT = 60  # seconds that nothing here comes near


def write_rows(path, count):
    rows = ({"prompt": f"question {at}", "response": f"answer {at}"} for at in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def leftovers(home):
    return list((home / "datasets").glob(".building-*"))


def wait_for(condition):
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_file_becomes_a_dataset_with_progress_and_first_rows(home, tmp_path):
    work = start_reading(home, write_rows(tmp_path / "rows.jsonl", 3_000), name="My rows")
    dataset = work.result(LIMIT)
    assert dataset.num_examples == 3_000 and dataset.name == "My rows" and work.done
    assert work.preview()[0] == (1, {"prompt": "question 0", "response": "answer 0"})
    assert len(work.preview()) == 25
    progress = work.progress()
    assert progress["bytes"] == progress["total"] > 0 and progress["rows"] >= 2_000
    assert work.result(0).id == dataset.id, "it may be asked again"
    assert work.findings() == [], "good rows have none, and few rows are not said of the first ones"


def test_choices_arrive(home, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("frage;antwort\ncafé;thé\n".encode("latin-1"))
    mapping = ColumnMapping("prompt_completion", {"prompt": "frage", "completion": "antwort"})
    options = ReadOptions(encoding="latin-1")
    work = start_reading(home, [path], mapping=mapping, options=options, system_prompt="Kurz.")
    (example,) = work.result(LIMIT).examples()
    assert [turn["content"] for turn in example.messages] == ["Kurz.", "café", "thé"]


def test_an_error_arrives_whole(home, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "a", "response": "b"}\n{"prompt": "caf\xe9", "response": "x"}\n')
    work = start_reading(home, path)
    with pytest.raises(UserError) as caught:
        work.result(LIMIT)
    error = caught.value
    assert "line 2" in error.where and error.code == "encoding" and "encoding" in error.offer
    assert leftovers(home) == []


def test_findings_arrive_before_the_end(home, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "response": "lost \\ufffd letter"}\n' * 40)
    work = start_reading(home, path)
    work.result(LIMIT)
    assert "lost_letters" in {problem.code for problem in work.findings()}


def test_a_process_that_crashes_is_an_error_in_words(home, tmp_path):
    path = write_rows(tmp_path / "a.jsonl", 200_000)
    ends = ((signal.SIGSEGV, "damaged"), (signal.SIGKILL, "system_memory"))
    started = [(start_reading(home, path), *end) for end in ends]
    for work, number, code in started:
        pid = work._process.pid
        wait_for(lambda pid=pid: list((home / "datasets").glob(f".building-{pid}-*")))
        os.kill(pid, number)
        with pytest.raises(UserError) as caught:
            work.result(LIMIT)
        assert caught.value.code == code and "JSON Lines" in caught.value.fix
    assert list((home / "datasets").iterdir()) == []


def test_cancel_leaves_nothing(home, tmp_path):
    work = start_reading(home, write_rows(tmp_path / "a.jsonl", 200_000))
    wait_for(lambda: leftovers(home) or work.done)
    work.cancel()
    with pytest.raises(UserError, match="cancelled"):
        work.result(0)
    assert list((home / "datasets").iterdir()) == []


def test_too_much_memory_is_refused_there_and_only_there(home, tmp_path, monkeypatch):
    path = tmp_path / "a.json"  # an object of columns can only be read at once
    path.write_text(json.dumps({"prompt": ["p" * 1000] * 50_000, "response": ["r"] * 50_000}))
    monkeypatch.setattr(reading, "MEMORY_LIMIT", 300 * 2**20)
    work = start_reading(home, path)
    with pytest.raises(UserError) as caught:
        work.result(LIMIT)
    assert caught.value.code == "system_memory" and "GB of memory" in caught.value.what
    assert leftovers(home) == []


def test_large_files_may_take_more_memory_but_not_most_of_the_machine(monkeypatch):
    pages = {"SC_PHYS_PAGES": 4 * 2**20, "SC_PAGE_SIZE": 4096}  # 16 GB
    monkeypatch.setattr(reading.os, "sysconf", pages.get)
    sizes = [reading.memory_limit(size * 2**30) >> 30 for size in (0, 2, 5, 100)]
    assert sizes == [3, 5, 8, 8]
    pages["SC_PHYS_PAGES"] = 2**19
    assert reading.memory_limit(5 * 2**30) == reading.MEMORY_LIMIT


def test_the_process_ends_with_the_app(home, tmp_path):
    path = write_rows(tmp_path / "a.jsonl", 400_000)
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from trainer_backend.data.reading.reading import start_reading\n"
        "work = start_reading(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(work._process.pid, flush=True)\ntime.sleep(60)"
    )
    app = subprocess.Popen(
        [sys.executable, "-c", code, str(home), str(path)], stdout=subprocess.PIPE, text=True
    )
    pid = int(app.stdout.readline())
    wait_for(lambda: leftovers(home))
    app.kill()
    app.communicate()
    wait_for(lambda: _gone(pid))
    assert not [one for one in (home / "datasets").iterdir() if one.name[0] != "."]


def _gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_other_work_on_stored_data(home):
    rows = [{"prompt": f"question {at}", "response": f"answer {at}"} for at in range(30)]
    first = create_from_rows(home, rows, name="rows")
    arguments = {"dataset_id": first.id, "edits": {"2": {"response": "better"}}, "drops": [3]}
    work = start_work(home, "edit_rows", arguments, first.name)
    unknown = start_work(home, "edit_rows", {"dataset_id": "0" * 16}, "x")
    second = work.result(LIMIT)
    assert second.num_examples == 29 and second.parent == first.id
    with pytest.raises(UserError, match="no such dataset"):
        unknown.result(LIMIT)


def test_an_unexpected_error_is_shown_without_its_traceback(home, monkeypatch, capfd):
    def broken(*_):
        raise ZeroDivisionError("what\nnobody thought of")

    monkeypatch.setitem(process.WORK, "create_dataset", broken)
    monkeypatch.setattr(process, "limit_memory", lambda size: None)
    request = {"home": str(home), "work": "create_dataset", "arguments": {}, "name": "x.csv"}
    write_json(home / "tmp" / "request.json", request | {"memory_limit": 1})
    said = process.run(home / "tmp")["error"]
    assert "nobody" not in json.dumps(said) and "ZeroDivisionError: what" in said["where"]
    assert "Traceback" in capfd.readouterr().err, "the log has it"


def test_what_the_app_polls_stays_small(home, tmp_path):
    name, path = "n" * 900, tmp_path / "wide.jsonl"
    row = {f"{name}{at}": "c" * 3_000 for at in range(30)} | {"prompt": "a", "response": "b"}
    path.write_text((json.dumps(row) + "\n") * 30)
    work = start_reading(home, path)
    assert work.result(LIMIT).num_rows == 30
    first = dict(work.preview())
    assert len(first) == 25 and len(json.dumps(first)) < 1_500_000
    assert work.opened().kind == "json" and work.instead() == []


def test_a_column_has_a_short_name(home, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "a", "response": "b", "n" * 1_001: "c"}) + "\n")
    with pytest.raises(UserError, match="name of a column is longer"):
        start_reading(home, path).result(LIMIT)
