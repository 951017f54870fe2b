"""estimate() as a whole: what is known, what is not, bad input, and the JSON of its contract."""

import json
from importlib import import_module

import pytest

from trainer_backend import estimate
from trainer_backend.data.store import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.estimation.weights import Stored, stored_weights
from trainer_backend.hardware import Hardware
from trainer_backend.recipe.recipe import Recipe

CPU = Hardware("cpu", "CPU", 1, 32.0, 32.0, 2, True)
ROOMY = Hardware("cpu", "CPU", 1, 256.0, 256.0, 2, True)
CONTRACT = {"fits", "memory_gb", "parts", "memory_free_gb", "steps", "tokens", "seconds"}
CONTRACT |= {"download_gb", "disk_gb", "based_on", "fix"}


def test_a_model_on_this_machine(home, dataset, tiny_model_dir):
    recipe = Recipe(base_model=str(tiny_model_dir), max_steps=6)
    found = estimate(recipe, dataset, CPU, home=home)
    shown = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(shown) >= CONTRACT and set(shown["memory_gb"]) == {"low", "likely", "high"}
    assert found.fits and found.fix is None and found.steps == 6 and found.download_gb == 0
    assert found.tokens > 0 and found.disk_gb > 0 and found.seconds.low < found.seconds.high
    assert sum(found.parts.values()) == pytest.approx(found.memory_gb.likely, abs=0.01)
    assert found.memory_gb.low < found.memory_gb.likely < found.memory_gb.high
    assert "guessed" in found.based_on and any("guessed" in note for note in found.notes)


def test_without_data_rows_are_as_long_as_allowed(home, dataset, tiny_model_dir):
    recipe = Recipe(base_model=str(tiny_model_dir), max_length=512, answer_check_rows=0)
    alone = estimate(recipe, None, CPU, home=home)
    assert alone.steps is None and alone.tokens is None and alone.seconds is None
    assert alone.memory_gb.likely > estimate(recipe, dataset, CPU, home=home).memory_gb.likely
    assert any("maximum length" in note for note in alone.notes)


def test_names_stand_for_recipes_and_data(home, dataset):
    assert estimate("quick_try", "orders_to_json", CPU, home=home).steps == 20
    by_id = estimate({"preset": "balanced", "max_steps": 3}, dataset.id, CPU, home=home)
    assert by_id.steps == 3
    with pytest.raises(UserError, match="no preset"):
        estimate("no_such_preset", home=home)


@pytest.mark.parametrize(
    "config",
    ['{"model_type": "llama"}', "{", "[]", '{"model_type": "llama", "hidden_size": "many"}'],
)
@pytest.mark.parametrize(
    "weights", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}"], ids=["none", "damaged", "empty"]
)
def test_a_model_without_sizes(home, dataset, tmp_path, config, weights):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(weights)
    found = estimate(Recipe(base_model=str(tmp_path)), dataset, CPU, home=home)
    assert found.fits is None and found.memory_gb is None and found.seconds is None
    assert found.steps == 12 and found.notes


@pytest.mark.parametrize(
    "base_model", ["", "a b/c", "nobody/nothing", "/no/folder", "x" * 500, "some/model-GGUF"]
)
def test_an_id_of_no_model(home, dataset, base_model):
    found = estimate(Recipe(base_model=base_model), dataset, CPU, home=home)
    assert found.fits is None and found.notes


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows_and_a_huge_one(home, tiny_model_dir, rows):
    texts = [{"prompt": "a", "response": "word " * 100_000}, {"prompt": "b", "response": "c"}]
    stored = create_from_rows(home, (texts * 2)[:rows], name="few")
    recipe = Recipe(base_model=str(tiny_model_dir), max_length=128)
    found = estimate(recipe, stored, CPU, home=home)
    assert found.steps == 3 and found.fits
    long = Recipe(base_model=str(tiny_model_dir), max_length=200_000)
    assert estimate(long, stored, CPU, home=home).memory_gb.likely > found.memory_gb.likely


def test_settings_that_cannot_be_are_said(home, dataset, tiny_model_dir):
    recipe = Recipe(base_model=str(tiny_model_dir), adapter="full", precision="int4")
    assert any("Full training" in n for n in estimate(recipe, dataset, CPU, home=home).notes)


def test_a_full_disk_is_said(home, dataset, tiny_model_dir, monkeypatch):
    module = import_module("trainer_backend.estimation.estimate")
    monkeypatch.setattr(module, "free_bytes", lambda folder: 10)
    found = estimate(Recipe(base_model=str(tiny_model_dir)), dataset, CPU, home=home)
    assert any("disk is too small" in note for note in found.notes)


def test_weights_are_counted_from_headers_alone(tmp_path):
    header = json.dumps(
        {
            "__metadata__": {},
            "a": {"dtype": "BF16", "shape": [4, 5], "data_offsets": [0, 40]},
            "b": {"dtype": "U8", "shape": [30], "data_offsets": [40, 70]},
        }
    ).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)  # no weights follow
    found = stored_weights(tmp_path)
    assert found == Stored(20, 30) and found.file_bytes == 70
    path.write_bytes(b"\xff" * 8)
    with pytest.raises(ValueError, match="safetensors"):
        stored_weights(tmp_path)


SETTINGS = {"base_model": "meta-llama/Llama-3.2-1B-Instruct", "adapter": "lora"}
SPLIT = SETTINGS | {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
WHOLE = SETTINGS | {"per_device_train_batch_size": 16}


def on_gpu(free: float) -> Hardware:
    return Hardware("cuda", "NVIDIA L40", 1, 48.0, free, 8, True)


def test_a_gpu_with_room_computes_the_batches_of_a_step_at_once(home):
    split = estimate(Recipe(**SPLIT), None, on_gpu(47.0), home=home)
    whole = estimate(Recipe(**WHOLE), None, on_gpu(47.0), home=home)
    assert split.memory_gb == whole.memory_gb and split.fits
    assert any("The 2 batches of each step are computed at once" in one for one in split.notes)
    assert not any("batches of each step" in one for one in whole.notes)
    slow, fast = (estimate(Recipe(**one), None, ROOMY, home=home) for one in (SPLIT, WHOLE))
    assert slow.memory_gb.likely < fast.memory_gb.likely  # a CPU takes one batch after the other
    assert not any("at once" in one for one in slow.notes)


def test_a_gpu_that_is_half_full_computes_a_step_in_parts_that_fit(home):
    whole = estimate(Recipe(**SPLIT), None, on_gpu(47.0), home=home).memory_gb.likely
    found = estimate(Recipe(**SPLIT), None, on_gpu(0.6 * whole), home=home)
    assert found.fits and found.fix is None and found.memory_gb.likely <= 0.6 * whole
    said = " ".join(found.notes)
    assert "Each step of 16 rows is computed in about 2 parts" in said or "4 parts" in said
    assert "Other programs hold" in said and "what is free counts" in said
    one_row = estimate(Recipe(**SETTINGS, per_device_train_batch_size=1), None, on_gpu(47.0))
    least = estimate(Recipe(**SPLIT), None, on_gpu(0.5), home=home)
    # single rows, of which as little as possible is kept
    assert not least.fits and least.memory_gb.likely < one_row.memory_gb.likely
    assert "per_device_train_batch_size" not in (least.fix or {})  # parts do that by themselves


def test_a_gpu_that_is_not_used_is_a_note(home, dataset, tiny_model_dir):
    machine = Hardware("cpu", "CPU", 1, 32.0, 32.0, 2, True, "Its driver is too old. Update it.")
    found = estimate(Recipe(base_model=str(tiny_model_dir)), dataset, machine, home=home)
    assert machine.problem in found.notes
