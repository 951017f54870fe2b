"""Runs of the tiny model, trained in this process. Fixtures are in the conftest files."""

import hashlib

from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run
from trainer_backend.worker.main import run_worker

SMALL = {
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "save_steps": 2,
    "eval_steps": 2,
    "learning_rate": 1e-2,
    "lora_r": 4,
    "max_length": 128,
    "precision": "fp32",
    "answer_check_rows": 0,
    "sample_rows": 0,
}


def small_recipe(model_dir, **changes) -> Recipe:
    return Recipe.from_dict({"base_model": str(model_dir), **SMALL, **changes})


def small_run(home, dataset, model_dir, **changes):
    return create_run(home, small_recipe(model_dir, **changes), dataset, foreground=True)


def train_small(home, dataset, model_dir, **changes):
    run = small_run(home, dataset, model_dir, **changes)
    assert run_worker(run.dir) == 0, run.state()
    return run


def weights_of(checkpoint) -> dict:
    from safetensors.torch import load_file

    return load_file(next(checkpoint.path.glob("*.safetensors")))


def weights_hash(run) -> str:
    """One number for all weights of a run's newest checkpoint."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(weights_of(run.checkpoints()[-1]).items()):
        digest.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def losses_of(run) -> list:
    return [row["loss"] for row in run.metrics() if row["type"] == "metrics"]
