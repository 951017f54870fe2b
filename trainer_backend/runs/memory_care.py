"""What a run does by itself when memory runs out: half the batch, the same weight updates.

What is said about it is failures.py; it happens only when the recipe asks for it.
"""

from trainer_backend.runs.failures import halved_batch
from trainer_backend.runs.run import Run

MEMORY_CODES = ("out_of_memory", "system_memory")


def go_on_smaller(run: Run, error: dict) -> str | None:
    """Halve the batch of a run that ran out of memory, if its recipe wants that.

    Returns what was done, or None if nothing was. Only while nobody trains the run: the next worker
    reads the change and goes on from the last checkpoint. The examples of a step stay the same, so
    the run's course does.
    """
    if error["code"] not in MEMORY_CODES:
        return None
    recipe = run.recipe()
    changes = halved_batch(recipe) if recipe.on_out_of_memory == "halve_batch" else None
    if changes is None:
        return None
    run.change_recipe(changes, "out_of_memory")
    return (
        "The memory ran out. Training goes on with batch size "
        f"{changes['per_device_train_batch_size']} and gradient accumulation "
        f"{changes['gradient_accumulation_steps']}: the same result, slower."
    )
