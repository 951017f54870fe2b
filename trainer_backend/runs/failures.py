"""Why a run failed, in words: from an exception in the worker, or from how its process ended.

Each failure says what, where, fix, code, offer (one click instead) and what is safe.
"""

import signal
from pathlib import Path

import psutil

from trainer_backend.disk import free_bytes, in_words, is_disk_full
from trainer_backend.errors import UserError
from trainer_backend.models import hub_failure
from trainer_backend.recipe import Recipe, changed_to, label
from trainer_backend.redact import redact
from trainer_backend.runs.run import Run

MEMORY_WORDS = (
    "out of memory",
    "cublas_status_alloc_failed",
    "defaultcpuallocator: can't allocate",
)
PACKAGE_FIX = "Install it with “pip install -r requirements.txt”, then resume."
MEMORY_COUNTERS = (("/sys/fs/cgroup/memory.events", "oom_kill "), ("/proc/vmstat", "oom_kill "))


def describe(error: BaseException, run: Run) -> dict:
    """state.error for an exception that ended the worker."""
    if isinstance(error, UserError):
        facts = {**error.to_dict(), "user": True}
    else:
        facts = {**_from_exception(error, run).to_dict(), "user": False}
    return {**facts, "safe": what_is_safe(run)}


def _from_exception(error: BaseException, run: Run) -> UserError:
    where, text = place(run), first_line(error)
    if is_out_of_memory(error):
        return out_of_memory(run)
    if is_disk_full(error):
        return disk_full(run)
    if isinstance(error, ModuleNotFoundError):
        what = f"The package “{error.name}” is not installed."
        return UserError(what, where, PACKAGE_FIX, code="missing_package")
    if isinstance(error, ImportError):
        fix = "Install the packages again with “pip install -r requirements.txt”, then resume."
        return UserError(f"A package cannot be loaded: {text}", where, fix, code="import_error")
    if isinstance(error, ValueError) and text.startswith("Target modules "):
        return _unknown_layers(text, run)
    model = f"{label('base_model')} “{run.recipe().base_model}”"
    if (found := hub_failure(error, model)) is not None:
        return found
    fix = "The log below shows the place in the program. Resume tries it again."
    return UserError(f"Training failed: {text}", where, fix, code="failed")


def _unknown_layers(text: str, run: Run) -> UserError:
    """peft found no layer of the names given: no resume helps, since they are locked."""
    named = run.recipe().lora_target_modules
    return UserError(
        f"The base model has no layer named “{named}”.",
        f"{label('lora_target_modules')} ({text})",
        "Start a new run with “all-linear”, or with names of the model's layers.",
        offer={"retry": {"lora_target_modules": "all-linear"}},
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out (torch's own class is a RuntimeError too)."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(one in words for one in MEMORY_WORDS)
    )


def out_of_memory(run: Run, *, of_machine: bool = False) -> UserError:
    """No memory left on the GPU, or in the machine: what was being trained and what to try."""
    recipe = run.recipe()
    size = f"batch size {recipe.per_device_train_batch_size} × {recipe.max_length} tokens"
    whose = "memory of this machine" if of_machine else "memory of the device"
    changes = smaller(recipe)
    same = " (the same result, slower)" if "per_device_train_batch_size" in changes else ""
    fix = "Choose a smaller model or the low-memory recipe."
    if changes:
        fix = f"Set {changed_to(changes)}{same}."
    return UserError(
        f"The {whose} ran out.",
        f"{place(run)}, {size}",
        fix,
        code="system_memory" if of_machine else "out_of_memory",
        offer={"retry": changes} if changes else None,
    )


def halved_batch(recipe: Recipe) -> dict | None:
    """Settings that look at half as many examples at once and correct as before; None at one."""
    batch = recipe.per_device_train_batch_size
    half = next((size for size in range(batch // 2, 0, -1) if batch % size == 0), None)
    if half is None:
        return None
    steps = recipe.gradient_accumulation_steps * (batch // half)
    return {"per_device_train_batch_size": half, "gradient_accumulation_steps": steps}


def smaller(recipe: Recipe) -> dict:
    """The change that saves memory and changes least of what is learned; {} when none is left."""
    if halved := halved_batch(recipe):
        return halved
    if not recipe.gradient_checkpointing:
        return {"gradient_checkpointing": True}
    if recipe.max_length > 256:
        return {"max_length": recipe.max_length // 2}
    return {"adapter": "lora"} if recipe.adapter == "full" else {}


def disk_full(run: Run, needed: int | None = None) -> UserError:
    """No room for what the run writes: how much it needs and how much there is."""
    free = in_words(free_bytes(run.dir))
    asked = f"{in_words(needed)} needed, " if needed else ""
    return UserError(
        "The disk is full.",
        f"{place(run)}: {asked}{free} free in {run.dir}",
        "Delete old runs or exports, then resume.",
        code="disk_full",
    )


def place(run: Run) -> str:
    """Where in the run, as the page shows it."""
    state = run.state()
    if not state.get("total_steps"):
        return f"before the first step of {run.name()}"
    return f"step {state.get('step') or 0} of {state['total_steps']}"


def what_is_safe(run: Run) -> str:
    """What the user still has."""
    kept = run.checkpoints()
    if not kept:
        return "Nothing was learned yet, nothing is lost."
    return f"The checkpoint of step {kept[-1].step} is safe; resume goes on from there."


def first_line(error: BaseException) -> str:
    """The first line of an exception's words, or its kind when it has none."""
    words = redact(str(error)).strip()
    return words.splitlines()[0][:240] if words else type(error).__name__


def memory_kills() -> int | None:
    """How often the system ended a process of this container (or machine) for want of memory.

    None where the system does not count.
    """
    for path, name in MEMORY_COUNTERS:
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        found = [int(line.split()[1]) for line in lines if line.startswith(name)]
        if found:
            return found[0]
    return None


def from_exit(run: Run, code: int | None, kills_before: int | None) -> UserError:
    """How a worker that left no word ended. `code` is None when nobody saw it end.

    `kills_before` is memory_kills() at its start.
    """
    again = f"{_going_on(run)}; the log below has the details."
    by_signal = _signal_of(code)
    if by_signal == signal.SIGKILL:
        if kills_before is not None and (memory_kills() or 0) > kills_before:
            return out_of_memory(run, of_machine=True)
        return _killed(run)
    if by_signal in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        what = f"Training stopped unexpectedly: it was ended from outside ({by_signal.name})."
        return UserError(what, place(run), again, code="killed")
    if by_signal is not None:
        what = f"The training process crashed ({by_signal.name})."
        fix = "This is a fault in a package or driver, not in the data. Resume tries it again."
        return UserError(what, place(run), fix, code="crashed")
    if code is None:
        return UserError(
            "Training stopped unexpectedly and nobody saw it end (was the machine restarted?).",
            *(place(run), again),
            code="lost_worker",
        )
    what = f"Training stopped unexpectedly, with exit code {code} and without a word."
    return UserError(what, place(run), again, code="exit_code")


def _going_on(run: Run) -> str:
    if run.checkpoints():
        return "Resume goes on from the last checkpoint"
    return "Resume begins again, with nothing lost but the time"


def _killed(run: Run) -> UserError:
    """Nothing counted it as want of memory; on a system that does not count it may still be."""
    memory = psutil.virtual_memory()
    if memory_kills() is None and memory.available < 0.05 * memory.total:
        return out_of_memory(run, of_machine=True)
    what = "Training stopped unexpectedly: its process was ended from outside (SIGKILL)."
    fix = f"{_going_on(run)}. If it happens again, memory may be short."
    return UserError(what, place(run), fix, code="killed")


def _signal_of(code: int | None) -> signal.Signals | None:
    """The signal in an exit code: negative as Python says it, 128 + n as a shell says it."""
    number = -code if code is not None and code < 0 else (code or 0) - 128
    try:
        return signal.Signals(number)
    except ValueError:
        return None


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
