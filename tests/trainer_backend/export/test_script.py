"""An exported script, run in a process of its own, repeats the run's losses; what --out may hit."""

import json
import shutil

import pytest
import torch
import yaml
from exported_script import curve, execute
from run_files import set_state

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.export.exporter import export_run
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run
from trainer_backend.worker.main import run_worker


def make_run(home, dataset, tiny_model_dir, **changes):
    settings = {
        "base_model": str(tiny_model_dir),
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "lora_r": 4,
        "max_length": 128,
        "precision": "fp32",
    }
    recipe = Recipe.from_dict({**settings, **changes})
    return create_run(home, recipe, dataset, foreground=True)


REPEATED = {
    "a usual run": {"eval_steps": 2, "save_steps": 2},
    "dropout, packing and a system prompt": {
        "lora_dropout": 0.2,
        "packing": True,
        "system_prompt": 'Say "no"\n\\ {twice}. ☃',
        "lora_target_modules": "q_proj, v_proj",
        "max_steps": -1,
        "num_train_epochs": 2,
        "seed": 7,
        "weight_decay": 0.1,
        "max_grad_norm": 0.5,
        "warmup_steps": 2,
        "lr_scheduler_type": "linear",
    },
    "every weight, evaluated at the end": {
        "adapter": "full",
        "precision": "bf16",
        "learning_rate": 1e-3,
        "gradient_accumulation_steps": 2,
        "save_steps": 0,
        "eval_steps": 0,
    },
    "bf16, no held-out rows": {"precision": "bf16", "eval_fraction": 0.0, "max_steps": 3},
    "4 bits": {"adapter": "qlora", "precision": "int4", "max_steps": 3},
}


def repeat(run, home) -> dict[int, float]:
    """Train the run, export and execute its script, compare the curves; returns the losses."""
    assert run_worker(run.dir) == 0, run.state()
    logged = execute(export_run(run, "script"), home)
    ours = curve(run.metrics(), "loss")
    assert len(ours) == run.state()["total_steps"]
    # on a 4-bit base the adapter is kept in bf16, which rounds the last digits away
    near = 1e-3 if run.recipe().precision == "int4" else 1e-6
    assert curve(logged, "loss") == pytest.approx(ours, abs=near)
    held_out = curve(run.metrics(), "eval_loss")
    assert curve(logged, "eval_loss") == pytest.approx(held_out, abs=near)
    return ours


@pytest.mark.parametrize("case", REPEATED)
def test_the_script_repeats_the_runs_losses(case, home, dataset, tiny_model_dir):
    run = make_run(home, dataset, tiny_model_dir, **REPEATED[case])
    repeat(run, home)
    final = home / "exports" / run.id / "script" / "output" / "final"
    assert list(final.glob("*.safetensors"))


def test_rows_of_different_shapes_and_a_base_model_without_a_template(
    home, tiny_model_dir, tmp_path
):
    folder = tmp_path / 'a "base" model'
    shutil.copytree(tiny_model_dir, folder)
    (folder / "chat_template.jinja").unlink()
    plain = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello ☃"}]
    named = [{**plain[0], "name": "Ann"}, plain[1]]
    rows = [{"messages": [plain, named][n % 2] + [plain, named][n % 3 > 0]} for n in range(24)]
    repeat(make_run(home, create_from_rows(home, rows, name="mixed"), folder), home)


def test_plain_text_is_repeated_too(home, tiny_model_dir):
    rows = [{"text": f"The capital of France is Paris. [1, {n}]"} for n in range(24)]
    repeat(make_run(home, create_from_rows(home, rows, name="text"), tiny_model_dir), home)


def test_the_folder_holds_the_rows_the_recipe_and_the_packages(home, dataset, tiny_model_dir):
    run = make_run(home, dataset, tiny_model_dir, report_to="none", optim="adamw_bnb_8bit")
    folder = export_run(run, "script")  # a run without a checkpoint will do
    names = {
        "README.md",
        "eval.jsonl",
        "recipe.yaml",
        "requirements.txt",
        "train.jsonl",
        "train.py",
    }
    assert {path.name for path in folder.iterdir()} == names
    train, held_out = run.split()
    for name, indices in (("train.jsonl", train), ("eval.jsonl", held_out)):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        wanted = [one.messages for one in dataset.examples(indices)]
        assert [row["messages"] for row in rows] == wanted
    assert yaml.safe_load((folder / "recipe.yaml").read_text()) == run.recipe().to_dict()
    packages = (folder / "requirements.txt").read_text().splitlines()
    assert f"torch=={torch.__version__.split('+')[0]}" in packages
    assert any(line.startswith("bitsandbytes==") for line in packages)
    code = (folder / "train.py").read_text()
    assert code.startswith("# ") and "trainer_backend" in code.split("import json")[0]
    assert "cd script\n" in (folder / "README.md").read_text()


def test_a_run_made_longer_is_exported_with_the_recipe_of_now(home, dataset, tiny_model_dir):
    run = make_run(home, dataset, tiny_model_dir, max_steps=2)
    stale = (run.dir / "recipe.yaml").read_text()
    run.change_recipe({"max_steps": 4}, "resumed")
    assert yaml.safe_load((run.dir / "recipe.yaml").read_text())["max_steps"] == 4
    (run.dir / "recipe.yaml").write_text(stale)  # as an older version left it
    folder = export_run(run, "script")
    assert yaml.safe_load((folder / "recipe.yaml").read_text()) == run.recipe().to_dict()
    assert "max_steps=4" in (folder / "train.py").read_text()


def test_a_run_of_another_machine_keeps_its_number_format(home, dataset, tiny_model_dir):
    run = make_run(home, dataset, tiny_model_dir)
    set_state(run, precision="fp16")
    code = (export_run(run, "script") / "train.py").read_text()
    assert "dtype=torch.float16" in code and "fp16=True" in code


def test_a_run_whose_data_is_gone_is_refused(home, dataset, tiny_model_dir):
    run = make_run(home, dataset, tiny_model_dir)
    shutil.rmtree(dataset.dir)
    with pytest.raises(UserError):
        export_run(run, "script")
    assert list((home / "exports" / run.id).iterdir()) == []


# Where an export may go


def test_a_folder_with_other_things_in_it_is_never_replaced(
    home, dataset, tiny_model_dir, tmp_path
):
    run = make_run(home, dataset, tiny_model_dir)
    out = tmp_path / "mine"
    out.mkdir()
    (out / "README.md").write_text("My letters")
    for place in (out, out / "README.md"):
        with pytest.raises(UserError) as caught:
            export_run(run, "script", out=place)
        assert caught.value.where == str(place) and caught.value.fix
    assert [path.name for path in out.iterdir()] == ["README.md"]


def test_an_empty_folder_and_an_earlier_export_are_replaced(
    home, dataset, tiny_model_dir, tmp_path
):
    run = make_run(home, dataset, tiny_model_dir)
    out = tmp_path / "new"
    out.mkdir()
    export_run(run, "script", out=out)
    (out / "train.py").write_text("old")
    assert export_run(run, "script", out=out) == out
    assert "SFTTrainer" in (out / "train.py").read_text()
