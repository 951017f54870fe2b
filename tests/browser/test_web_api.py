"""The web API as a script uses it, with the tiny model: load, start, watch, chat, export."""

import json
import time
import zipfile

import httpx
import psutil
import pytest
from browser.page_steps import write_pairs
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

OVER = ("finished", "failed", "stopped", "paused")
SETTINGS = '{{"preset": "quick_try", "base_model": "{model}", "max_steps": 2, "max_length": 64}}'


@pytest.fixture
def client(app):
    return Client(app.url, verbose=False)


@pytest.fixture
def data(tmp_path):
    pairs = [(f"What is {n}?", f"It is {n}.") for n in range(30)]
    return write_pairs(tmp_path / "numbers.jsonl", pairs)


def wait_until_over(client, run_id) -> dict:
    for _ in range(400):
        status = client.predict(run_id, api_name="/run_status")
        if status["state"] in OVER:
            return status
        time.sleep(0.5)
    raise AssertionError(status)


def test_a_script_trains_and_talks(client, data, tiny_model_dir):
    loaded = client.predict(handle_file(str(data)), api_name="/load_dataset")
    assert loaded["rows"] == 30 and loaded["format"] == "prompt_completion"
    settings = SETTINGS.format(model=tiny_model_dir)
    said = client.predict(loaded["dataset_id"], settings, api_name="/estimate")
    assert said["fits"] and said["steps"] == 2 and said["memory_gb"]["likely"] > 0
    with pytest.raises(AppError, match="no preset"):
        client.predict("", '{"preset": "none_such"}', api_name="/estimate")
    run_id = client.predict(loaded["dataset_id"], settings, api_name="/start_training")
    status = wait_until_over(client, run_id)
    assert status["state"] == "finished" and status["step"] == status["total_steps"] == 2
    assert "dir" not in status
    rows = client.predict(run_id, 0, api_name="/run_metrics")
    assert client.predict(run_id, len(rows), api_name="/run_metrics") == []
    assert [row["step"] for row in rows if row["type"] == "metrics"] == [1, 2]
    assert client.predict(api_name="/list_runs")[0]["id"] == run_id
    assert isinstance(client.predict(run_id, "What is 3?", api_name="/chat"), str)
    found = client.predict(run_id, '{"rows": 1}', api_name="/evaluate_run")
    assert found["verdict"] in ("better", "worse", "no clear difference")
    assert len(found["examples"]) == 1 and {"loss", "perplexity"} < set(found["metrics"])
    newest = client.predict(run_id, api_name="/run_status")["evaluations"][0]
    assert newest["id"] == found["id"] and newest["metrics"] == found["metrics"]
    file = client.predict(run_id, "adapter", api_name="/export_run")
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
    with pytest.raises(AppError, match="cannot be resumed"):
        client.predict(run_id, api_name="/resume_training")
    client.predict(run_id, '{"max_steps": 3}', api_name="/resume_training")
    assert wait_until_over(client, run_id)["step"] == 3


def test_a_script_says_how_a_file_is_read(client, tmp_path):
    rows = [{"eins": f"What is {n}?", "zwei": f"It is {n}.", "id": n} for n in range(30)]
    path = tmp_path / "unclear.json"
    path.write_text(json.dumps(rows), encoding="utf-8")

    def load(*options, **more):
        return client.predict(handle_file(str(path)), *options, api_name="/load_dataset", **more)

    asked = load()
    assert asked["format"] == "" and "could mean more than one thing" in asked["sentence"]
    columns = {"prompt": "eins", "completion": "zwei"}
    for options in ({"columns": columns}, json.dumps({"columns": columns})):
        loaded = load(options)
        assert loaded["ignored_columns"] == ["id"] and "answer from “zwei”" in loaded["sentence"]
    assert load(more_files=[handle_file(str(path))])["rows"] == 60
    for options, words in (
        ('{"columns": {"prompt": "drei", "completion": "zwei"}}', "Choose one of “eins”"),
        ('{"columns": {"question": "eins"}}', "Unknown role"),
        ('{"colums": {}}', "Unknown option"),
        ('{"encoding": "klingon"}', "Unknown encoding"),
        ('{"delimiter": 3}', "is not a text"),
        ('{"chosen": true}', "preference data"),
        ("[1]", "not a JSON object"),
    ):
        with pytest.raises(AppError, match=words):
            load(options)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("/run_status", ["../../etc/passwd"]),
        ("/run_metrics", ["run-unknown", 0]),
        ("/run_metrics", ["run-unknown", "x"]),
        ("/start_training", ["ds-unknown", "{}"]),
        ("/start_training", ["ds-unknown", '{"learning_rate": "abc"}']),
        ("/start_training", ["ds-unknown", "no json"]),
        ("/stop_training", ["run-unknown"]),
        ("/resume_training", ["run-unknown", "[1]"]),
        ("/export_run", ["/etc/passwd", "adapter"]),
    ],
)
def test_a_mistake_is_answered_with_its_message(client, name, arguments):
    with pytest.raises(AppError) as error:
        client.predict(*arguments, api_name=name)
    assert "Traceback" not in str(error.value) and str(error.value).count("\n") == 2


def memory_of(app) -> int:
    """Resident memory of the app's process, in bytes."""
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(app.home) in (process.info["cmdline"] or []) and "app.py" in process.info["cmdline"]
    ]
    return found[0].memory_info().rss


def test_case_41_a_download_of_5_gb_may_be_dropped_and_resumed(app):
    size, mark = 5 * 2**30, b"the last bytes"
    file = app.home / "exports" / "large.zip"
    file.parent.mkdir(exist_ok=True)
    with open(file, "wb") as out:  # sparse: it takes no disk space
        out.seek(size - len(mark))
        out.write(mark)
    address = f"{app.url}/gradio_api/file={file}"
    try:
        before = memory_of(app)
        with httpx.stream("GET", address) as answer:
            assert int(answer.headers["content-length"]) == size
            chunks = answer.iter_raw(2**20)
            assert sum(len(next(chunks)) for _ in range(200)) >= 190 * 2**20  # then it is dropped
        rest = httpx.get(address, headers={"Range": f"bytes={size - len(mark)}-"})
        assert (rest.status_code, rest.content) == (206, mark)
        assert memory_of(app) - before < 100 * 2**20
    finally:
        file.unlink()
