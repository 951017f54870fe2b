"""Each way to fail has its own words, code and offer, and says what is safe."""

import errno
import json
import re
import signal
from pathlib import Path

import pytest
import torch
from run_files import set_state
from small_runs import small_run

from trainer_backend.disk import is_disk_full
from trainer_backend.errors import CODES, UserError
from trainer_backend.hardware import hardware
from trainer_backend.home import read_json
from trainer_backend.recipe.recipe import STARTER_MODEL, Recipe
from trainer_backend.runs import failures
from trainer_backend.runs.checkpoints import commit
from trainer_backend.runs.create import create_run, retry_run
from trainer_backend.runs.failures import describe, from_exit, halved_batch, smaller
from trainer_backend.scheduling.worker_process import settle
from trainer_backend.worker.main import run_worker

TORN_WRITE = "[enforce fail at inline_container.cc:672] . unexpected pos 320 vs 256"
CASES = [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "out_of_memory"),
    (MemoryError(), "out_of_memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
    (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
    (RuntimeError(TORN_WRITE), "disk_full"),
    (ModuleNotFoundError("No module named 'tabby'", name="tabby"), "missing_package"),
    (ImportError("libcudart.so.13: cannot open shared object file"), "import_error"),
    (RuntimeError("CUDA error: device-side assert triggered"), "gpu"),
    (torch.AcceleratorError("CUDA error: unspecified launch failure"), "gpu"),
    (ValueError("something odd"), "failed"),
    (UserError("a", "b", "c", code="token_ids"), "token_ids"),
]


@pytest.fixture
def running(run):
    set_state(run, state="running", step=3, total_steps=9)
    return run


def checkpoint(run, step: int) -> None:
    path = run.dir / "checkpoints" / f"checkpoint-{step}"
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(b"x")
    commit(path, step, run=run.id)


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda value: str(value)[:30])
def test_an_exception_becomes_words_with_a_code(running, error, code):
    facts = describe(error, running)
    assert facts["code"] == code and code in CODES
    assert facts["what"] and facts["where"] and facts["fix"] and facts["safe"]
    assert facts["user"] is isinstance(error, UserError)
    assert json.loads(json.dumps(facts)) == facts


def test_an_error_has_the_place_and_what_is_safe(running):
    assert "No checkpoint was saved yet" in describe(ValueError("x"), running)["safe"]
    checkpoint(running, 2)
    facts = describe(ValueError("x"), running)
    assert facts["where"] == "step 3 of 9" and "checkpoint of step 2 is safe" in facts["safe"]


def test_a_missing_package_is_named(running):
    facts = describe(ModuleNotFoundError("No module named 'tabby'", name="tabby"), running)
    assert "“tabby”" in facts["what"] and "pip install" in facts["fix"]


def test_case_26_and_27_no_memory_offers_half_the_batch_and_twice_the_batches(running):
    facts = describe(torch.OutOfMemoryError("CUDA out of memory."), running)
    wanted = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert facts["offer"] == {"retry": wanted}
    assert "batch size 8 × 1024 tokens" in facts["where"] and "same result" in facts["fix"]


@pytest.mark.parametrize(
    ("batch", "steps", "expected"),
    [(8, 1, (4, 2)), (6, 2, (3, 4)), (3, 1, (1, 3)), (1, 4, None)],
)
def test_a_halved_batch_keeps_the_examples_of_an_optimizer_step(batch, steps, expected):
    recipe = Recipe(per_device_train_batch_size=batch, gradient_accumulation_steps=steps)
    found = halved_batch(recipe)
    assert (found and tuple(found.values())) == expected
    assert found is None or found["per_device_train_batch_size"] * found[
        "gradient_accumulation_steps"
    ] == (batch * steps)


@pytest.mark.parametrize(
    ("batch", "rows", "half"), [(1024, 190, 64), (1024, 5000, 512), (8, 3, 1), (8, 1, None)]
)
def test_the_batch_is_halved_from_the_rows_really_in_it(running, batch, rows, half):
    recipe = Recipe(per_device_train_batch_size=batch, gradient_accumulation_steps=2)
    found = halved_batch(recipe, rows)
    assert (found and found["per_device_train_batch_size"]) == half
    if found:
        assert found["gradient_accumulation_steps"] * half == 2 * batch  # the same steps
    set_state(running, batch_rows=3)
    facts = describe(torch.OutOfMemoryError("CUDA out of memory."), running)
    assert facts["offer"]["retry"]["per_device_train_batch_size"] == 1
    assert "batch size 8 (of 3 rows)" in facts["where"]


def test_a_step_tried_in_parts_is_offered_something_else_than_half_the_batch(running):
    error = torch.OutOfMemoryError("CUDA out of memory.")
    error.tried = "Tried in 1, 2 and 4 parts; the longest example alone does not fit."
    facts = describe(error, running)
    assert facts["where"].endswith(error.tried)
    assert facts["offer"] == {"retry": {"gradient_checkpointing": True}}


def test_the_offer_shrinks_until_nothing_is_left():
    recipe, seen = Recipe(per_device_train_batch_size=4, adapter="full"), []
    while changes := smaller(recipe):
        recipe = Recipe.from_dict({**recipe.to_dict(), **changes})
        seen.append(next(iter(changes)))
    assert seen == [*["per_device_train_batch_size"] * 2, "gradient_checkpointing"] + [
        *["max_length"] * 2,
        "adapter",
    ]


@pytest.mark.parametrize(
    ("exit_code", "code", "words"),
    [
        (-signal.SIGKILL, "killed", "SIGKILL"),
        (137, "killed", "SIGKILL"),
        (-signal.SIGTERM, "killed", "SIGTERM"),
        (-signal.SIGSEGV, "crashed", "SIGSEGV"),
        (139, "crashed", "SIGSEGV"),
        (-signal.SIGBUS, "crashed", "SIGBUS"),
        (3, "exit_code", "code 3"),
        (None, "lost_worker", "disappeared"),
    ],
)
def test_case_32_each_way_to_end_has_its_words(running, exit_code, code, words):
    error = from_exit(running, exit_code, failures.memory_kills())
    assert error.code == code and words in error.what and error.where == "step 3 of 9"
    assert "last checkpoint" not in error.fix  # there is none
    checkpoint(running, 2)
    kept = "last checkpoint" in from_exit(running, exit_code, failures.memory_kills()).fix
    assert kept or code == "crashed"


def test_layers_the_model_does_not_have_are_named_with_a_way_out(running):
    error = ValueError("Target modules {'nonsense'} not found in the base model. Please check")
    told = failures.describe(error, running)
    assert "no layer named" in told["what"] and "nonsense" in told["where"]
    assert told["offer"] == {"retry": {"lora_target_modules": "all-linear"}}


def test_case_26_a_kill_for_want_of_memory_is_told_from_any_other(running, monkeypatch):
    """The counter of the system is played: no test can fill the machine's memory."""
    monkeypatch.setattr(failures, "memory_kills", lambda: 5)
    assert from_exit(running, -signal.SIGKILL, 5).code == "killed"
    error = from_exit(running, -signal.SIGKILL, 4)
    assert error.code == "system_memory" and error.offer["retry"]
    assert "machine ran out of memory" in error.what and "step 3 of 9" in error.where


def test_the_systems_counter_is_read(tmp_path, monkeypatch):
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    monkeypatch.setattr(failures, "MEMORY_COUNTERS", ((str(counter), "oom_kill "),))
    assert failures.memory_kills() == 2
    counter.unlink()
    assert failures.memory_kills() is None


def test_case_32_an_import_error_names_the_package(home, dataset, tiny_model_dir, monkeypatch):
    import builtins
    import sys

    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "peft" or name == "trainer_backend.worker.train":
            raise ModuleNotFoundError("No module named 'peft'", name="peft")
        return original(name, *args, **kwargs)

    run = small_run(home, dataset, tiny_model_dir)
    monkeypatch.delitem(sys.modules, "trainer_backend.worker.train", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert run_worker(run.dir) == 1
    monkeypatch.undo()
    assert run.state()["error"]["code"] == "missing_package"


def test_settling_writes_the_whole_error(running):
    checkpoint(running, 2)
    settle(running, -signal.SIGSEGV)
    error = running.state()["error"]
    assert set(error) >= {"what", "where", "fix", "code", "offer", "safe", "user"}
    assert error["code"] == "crashed" and "step 2" in error["safe"]


def test_a_full_disk_is_known_by_its_number_its_words_and_its_cause():
    inner = OSError(errno.EDQUOT, "Disk quota exceeded")
    outer = RuntimeError("saving failed")
    outer.__cause__ = inner
    assert is_disk_full(inner) and is_disk_full(outer) and is_disk_full(RuntimeError(TORN_WRITE))
    assert not is_disk_full(RuntimeError("PytorchStreamReader failed reading zip archive"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))


def test_every_code_a_room_of_runs_names_is_in_the_table():
    folder = Path(failures.__file__).parent
    used = {
        code
        for path in folder.glob("*.py")
        for code in re.findall(r'code="(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert used - set(CODES) == set()


def halving(run) -> dict:
    spec = read_json(run.dir / "spec.json")
    return {**spec, "recipe": {**spec["recipe"], "on_out_of_memory": "halve_batch"}}


def test_case_26_a_recipe_may_continue_with_half_the_batch_by_itself(running, monkeypatch):
    from trainer_backend.home import write_json

    write_json(running.dir / "spec.json", halving(running))
    monkeypatch.setattr(failures, "memory_kills", lambda: 9)
    write_json(running.dir / "worker.json", {"memory_kills": 8})
    settle(running, -signal.SIGKILL)
    state, recipe = running.state(), running.recipe()
    assert state["state"] == "queued" and state["error"] is None
    assert (recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps) == (4, 2)
    assert "batch size 4" in state["warnings"][-1]
    assert running.recipe_changes()[0]["why"] == "out_of_memory"
    for _ in range(2):
        set_state(running, state="running")
        settle(running, -signal.SIGKILL)
    set_state(running, state="running")
    settle(running, -signal.SIGKILL)  # a batch of one has no half
    assert running.state()["state"] == "failed"
    assert hardware().num_devices >= 1


def test_a_model_that_never_came_offers_the_starter(home, dataset, run):
    gone = UserError("a", "b", "c", code="hub_down")
    assert describe(gone, run)["offer"] is None  # it is the starter model
    other = create_run(home, Recipe(base_model="o/m"), dataset)
    assert describe(gone, other)["offer"] == {"retry": {"base_model": STARTER_MODEL}}
    assert describe(UserError("a", "b", "c", code="hub_partial"), other)["offer"] is None
    set_state(other, state="failed", error=describe(gone, other))
    again = retry_run(other)
    assert again.recipe().base_model == STARTER_MODEL and again.name().startswith("SmolLM2")
    checkpoint(other, 2)
    assert describe(gone, other)["offer"] is None


def test_a_card_that_another_program_fills_is_named(running):
    said = "CUDA out of memory. Tried to allocate 2 GiB. Process 7 has 12.30 GiB memory in use."
    facts = describe(torch.OutOfMemoryError(said), running)
    assert facts["what"] == (
        "The device ran out of memory: another program uses 12 GB of this card."
    )
    assert facts["fix"].startswith("End that program, or: Set") and facts["offer"]


def test_a_fault_of_a_gpu_says_what_cuda_said(running):
    text = "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be late"
    facts = describe(RuntimeError(text), running)
    assert "faulty" in facts["what"] and "another card" in facts["fix"]
    assert facts["where"] == "step 3 of 9 (CUDA error: uncorrectable ECC error encountered)"
