"""The main job with the real starter model: csv, check, train, stop, resume, chat, export, load."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer_backend.data.store.uploads import create_from_sample
from trainer_backend.home import open_home
from trainer_backend.runs.create import list_runs

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path, starter_model):
    home = open_home(tmp_path / "home")
    (home / "models" / starter_model.name).symlink_to(starter_model)
    return home


@pytest.fixture
def data(home, tmp_path):
    """A CSV as a user would upload it: the sample's rows under other column names."""
    import csv

    stored = create_from_sample(home, "orders_to_json")
    path = tmp_path / "orders.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        rows, _ = stored.page(0, stored.num_rows)
        writer.writerows((row["prompt"], row["response"]) for _, row in rows)
    return path


def call(home, *arguments, check=True) -> str:
    command = [sys.executable, "-m", "trainer_backend", *map(str, arguments), "--home", str(home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert not check or done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_file_becomes_a_model_that_answers(home, data, tmp_path):
    report = json.loads(call(home, "check", data, "--json"))
    assert report["format"] == "prompt_completion" and report["rows"] == report["examples"] > 400

    command = [sys.executable, "-m", "trainer_backend", "train", "quick_try", "--data", str(data)]
    command += ["--home", str(home), "--set", "save_steps=4"]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    run = wait_for_checkpoint(home)
    first.send_signal(signal.SIGINT)
    stopped = json.loads(first.communicate(timeout=120)[0].splitlines()[-1])
    assert stopped["state"] == "paused" and 4 <= stopped["step"] < 20

    finished = json.loads(call(home, "resume", run.id).splitlines()[-1])
    assert finished["state"] == "finished" and finished["step"] == 20
    assert finished["answers"]["base"] == 0.0
    assert finished["answers"]["tuned"] >= 0.95
    assert finished["eval_loss"] < 0.1

    held_out = next(run.dataset().examples(run.split()[1][:1]))
    prompt, expected = (held_out.messages[at]["content"] for at in (0, 1))
    tuned = call(home, "chat", run.id, "--prompt", prompt)
    base = call(home, "chat", run.id, "--prompt", prompt, "--base", "--max-new-tokens", "24")
    assert tuned.strip() == expected and base.strip() != expected

    for format in ("adapter", "merged"):
        folder = tmp_path / format
        call(home, "export", run.id, "--format", format, "--out", folder)
        assert answer_with_plain_libraries(folder, prompt) == expected


def wait_for_checkpoint(home, seconds: float = 300.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for run in list_runs(home):
            if run.checkpoints():
                return run
        time.sleep(0.1)
    raise AssertionError("no checkpoint was written")


def answer_with_plain_libraries(folder: Path, prompt: str) -> str:
    """Load the export with transformers and peft alone, in a process that knows nothing of us."""
    code = (
        "import sys\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "folder, prompt = sys.argv[1:]\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "model = AutoModelForCausalLM.from_pretrained(folder, dtype='float32')\n"
        "messages = [{'role': 'user', 'content': prompt}]\n"
        "inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True,"
        " return_tensors='pt', return_dict=True)\n"
        "out = model.generate(**inputs, max_new_tokens=64, do_sample=False)\n"
        "print(tokenizer.decode(out[0][inputs['input_ids'].shape[1]:], skip_special_tokens=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), prompt],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]
