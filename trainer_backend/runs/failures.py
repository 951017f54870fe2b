"""Why a run failed, in words: from an exception in the worker, or from how its process ended.

Each failure has what, where, fix, code, an offer (settings for a retry) and what is safe. The only
change made to a run here is half the batch after it ran out of memory.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from trainer_backend.disk import free_bytes, in_words, is_disk_full
from trainer_backend.errors import UserError, is_out_of_memory
from trainer_backend.models import hub_failure
from trainer_backend.nvidia import find_fault, others_memory
from trainer_backend.processes import end_signal
from trainer_backend.recipe import STARTER_MODEL, Recipe, changed_to, label
from trainer_backend.redact import redact
from trainer_backend.runs.run import Run

MEMORY_CODES = ("out_of_memory", "system_memory")
HUB_CODES = ("hub_down", "hub_login", "hub_gated", "hub_missing", "hub_busy")
MEMORY_COUNTERS = (("/sys/fs/cgroup/memory.events", "oom_kill "), ("/proc/vmstat", "oom_kill "))
INSTALL = "pip install -r requirements.txt"


def describe(error: BaseException, run: Run) -> dict[str, Any]:
    """`state["error"]` for an exception that ended the worker."""
    if isinstance(error, UserError):
        facts = {**error.to_dict(), "user": True}
    else:
        facts = {**_from_exception(error, run).to_dict(), "user": False}
    offer = facts["offer"] or _other_model(facts["code"], run)
    return {**facts, "offer": offer, "safe": what_is_safe(run)}


def _other_model(code: str, run: Run) -> dict[str, Any] | None:
    """The offer of a run whose model never came from the Hub: the starter model instead."""
    begun = run.checkpoints() or run.spec().get("start")
    if code not in HUB_CODES or begun or run.recipe().base_model == STARTER_MODEL:
        return None
    return {"retry": {"base_model": STARTER_MODEL}}


def _from_exception(error: BaseException, run: Run) -> UserError:
    where, text = _place(run), _first_line(error)
    if is_out_of_memory(error):
        tried, taken = getattr(error, "tried", ""), others_memory(str(error))
        return _out_of_memory(run, tried=tried, taken=taken)
    if is_disk_full(error):
        return disk_full(run)
    if (fault := find_fault(str(error))) is not None:
        return UserError(fault.what, f"{where} ({text})", fault.fix, code="gpu")
    if isinstance(error, ModuleNotFoundError):
        what = f"The package “{error.name}” is not installed."
        fix = f"Install it with “{INSTALL}”, then resume."
        return UserError(what, where, fix, code="missing_package")
    if isinstance(error, ImportError):
        fix = f"Install the packages again with “{INSTALL}”, then resume."
        return UserError(f"A package cannot be loaded: {text}", where, fix, code="import_error")
    if isinstance(error, ValueError) and text.startswith("Target modules "):
        return _unknown_layers(text, run)
    model = f"{label('base_model')} “{run.recipe().base_model}”"
    if (found := hub_failure(error, model)) is not None:
        return found
    fix = "See the log below for the traceback. Resume to try again."
    return UserError(f"Training failed: {text}", where, fix, code="failed")


def _unknown_layers(text: str, run: Run) -> UserError:
    """peft found no layer of the given names: resuming cannot help, since they are locked."""
    named = run.recipe().lora_target_modules
    return UserError(
        f"The base model has no layer named “{named}”.",
        f"{label('lora_target_modules')} ({text})",
        "Start a new run with “all-linear”, or with names of the model's layers.",
        offer={"retry": {"lora_target_modules": "all-linear"}},
    )


def from_exit(run: Run, code: int | None, kills_before: int | None) -> UserError:
    """The failure of a worker that ended without writing an end state.

    `code` is its exit code, None if unknown; `kills_before` is memory_kills() at its start.
    """
    ended_by = end_signal(code)
    if ended_by == "SIGKILL":
        return _killed(run, kills_before)
    fix = f"{_after_resume(run)}; see the log below for details."
    if ended_by in ("SIGTERM", "SIGINT", "SIGHUP"):
        what = f"The training process was ended from outside ({ended_by})."
        return UserError(what, _place(run), fix, code="killed")
    if ended_by is not None:
        what = f"The training process crashed ({ended_by})."
        fix = "The fault is in a package or driver, not in the data. Resume to try again."
        return UserError(what, _place(run), fix, code="crashed")
    if code is None:
        what = "The training process disappeared. Was the machine restarted?"
        return UserError(what, _place(run), fix, code="lost_worker")
    what = f"The training process exited with code {code} and no error message."
    return UserError(what, _place(run), fix, code="exit_code")


def _killed(run: Run, kills_before: int | None) -> UserError:
    """Out of memory if the system counted a kill, or does not count and has little left."""
    kills, memory = memory_kills(), psutil.virtual_memory()
    counted = kills_before is not None and (kills or 0) > kills_before
    if counted or (kills is None and memory.available < 0.05 * memory.total):
        return _out_of_memory(run, of_machine=True)
    what = "The training process was ended from outside (SIGKILL)."
    fix = f"{_after_resume(run)}. If it happens again, the machine may be short of memory."
    return UserError(what, _place(run), fix, code="killed")


def memory_kills() -> int | None:
    """How many processes of this container (or machine) the system has killed for lack of memory.

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


def _out_of_memory(
    run: Run, *, of_machine: bool = False, tried: str = "", taken: str = ""
) -> UserError:
    """`tried`: in how many parts a step was computed, in words; half the batch is no help then.

    `taken`: what other programs hold of the device, in words.
    """
    recipe, state = run.recipe(), run.state()
    rows, less = state.get("batch_rows"), (state.get("trial") or {}).get("less", ())
    now = replace(recipe, gradient_checkpointing=True) if "checkpointing" in less else recipe
    changes = smaller(now, rows, in_parts=bool(tried))
    same = " (the same result, slower)" if "per_device_train_batch_size" in changes else ""
    fix = "Choose a smaller model or the low-memory recipe."
    if changes:
        fix = f"Set {changed_to(changes)}{same}."
    if taken:
        fix = f"End that program, or: {fix}"
    batch = recipe.per_device_train_batch_size
    fewer = f" (of {rows} rows)" if rows and rows < batch else ""
    where = f"{_place(run)}, batch size {batch}{fewer} × {recipe.max_length} tokens"
    return UserError(
        f"The {'machine' if of_machine else 'device'} ran out of memory"
        f"{f': {taken}' if taken else ''}.",
        f"{where}. {tried}" if tried else where,
        fix,
        code="system_memory" if of_machine else "out_of_memory",
        offer={"retry": changes} if changes else None,
    )


def halved_batch(recipe: Recipe, rows: int | None = None) -> dict[str, int] | None:
    """The settings with half the batch size and as many examples an optimizer step; None at one.

    `rows` are those really in a batch (None: as many as its size): half of these.
    """
    batch = recipe.per_device_train_batch_size
    most = min(batch, rows or batch) // 2
    half = next((size for size in range(most, 0, -1) if batch % size == 0), None)
    if half is None:
        return None
    steps = recipe.gradient_accumulation_steps * (batch // half)
    return {"per_device_train_batch_size": half, "gradient_accumulation_steps": steps}


def smaller(recipe: Recipe, rows: int | None = None, *, in_parts: bool = False) -> dict[str, Any]:
    """The change that saves memory and alters the result least; {} when none is left.

    `rows` are those really in a batch; `in_parts`: it was computed one row after the other.
    """
    if not in_parts and (halved := halved_batch(recipe, rows)):
        return halved
    if not recipe.gradient_checkpointing:
        return {"gradient_checkpointing": True}
    if recipe.max_length > 256:
        return {"max_length": recipe.max_length // 2}
    return {"adapter": "lora"} if recipe.adapter == "full" else {}


def halve_batch(run: Run, error: dict[str, Any]) -> str | None:
    """Halve the batch of a run that ran out of memory, if its recipe asks for that.

    Returns a sentence about the change, or None without one; the caller queues the run again. Only
    while no worker trains it: the next one reads the change. Each optimizer step keeps its
    examples, so the losses do not change.
    """
    if error["code"] not in MEMORY_CODES:
        return None
    changes = (error.get("offer") or {}).get("retry") or {}
    halved = "per_device_train_batch_size" in changes
    if not halved or run.recipe().on_out_of_memory != "halve_batch":
        return None
    run.change_recipe(changes, "out_of_memory")
    return (
        "The memory ran out. Training continues with batch size "
        f"{changes['per_device_train_batch_size']} and gradient accumulation "
        f"{changes['gradient_accumulation_steps']}: the same result, slower."
    )


def disk_full(run: Run) -> UserError:
    """The error for a disk without room for what the run writes."""
    return UserError(
        "The disk is full.",
        f"{_place(run)}: {in_words(free_bytes(run.dir))} free in {run.dir}",
        "Delete old runs or exports, then resume.",
        code="disk_full",
    )


def what_is_safe(run: Run) -> str:
    """A sentence about the work that is kept."""
    kept = run.checkpoints()
    if not kept:
        return "No checkpoint was saved yet; resume starts from the beginning."
    return f"The checkpoint of step {kept[-1].step} is safe; resume continues from it."


def _after_resume(run: Run) -> str:
    kept = run.checkpoints()
    return (
        "Resume continues from the last checkpoint" if kept else "Resume starts from the first step"
    )


def _place(run: Run) -> str:
    state = run.state()
    if not state.get("total_steps"):
        return f"before the first step of {run.name()}"
    return f"step {state.get('step') or 0} of {state['total_steps']}"


def _first_line(error: BaseException) -> str:
    words = redact(str(error)).strip()
    return words.splitlines()[0][:240] if words else type(error).__name__
