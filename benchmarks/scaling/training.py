"""What training costs by length of rows, size of the model, rank, batch and processes.

Models have random weights and rows random tokens: only their sizes matter. One thread a process.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.scaling.meter import Meter, memory_mb, processor_seconds
from benchmarks.throughput import stopwatch
from benchmarks.tiny_model import build

STEPS, WARM_UP = 5, 2
TOKENS = 512  # of a step where something else grows
VOCABULARY = 300
MILLION = 1_000_000
# hidden size and layers by about how many million weights that makes
WIDTHS = {1: (128, 4), 4: (256, 4), 16: (512, 4), 64: (1024, 4), 256: (2048, 4)}


@dataclass(frozen=True)
class Job:
    """One training: a model, its adapter, and equal rows."""

    hidden: int = 256
    layers: int = 4
    rank: int = 8
    length: int = 64
    batch: int = 8
    full: bool = False


def measure_length(size: int) -> None:
    """Rows of `size` tokens, one a step; and as many tokens in rows of 64."""
    meter = Meter(size)
    for name, job in {
        "a step of one row": Job(length=size, batch=1),
        "the same tokens in rows of 64": Job(batch=max(1, size // 64)),
    }.items():
        _train(meter, name, job)


def measure_model(size: int) -> None:
    """A model of about `size` weights, with an adapter and in full."""
    meter = Meter(size)
    hidden, layers = WIDTHS[min(WIDTHS, key=lambda one: abs(one * MILLION - size))]
    job = Job(hidden, layers)
    _train(meter, "a step with an adapter", job)
    _train(meter, "a step of full training", replace(job, full=True))


def measure_rank(size: int) -> None:
    """An adapter of rank `size` on a model of four million weights."""
    _train(Meter(size), "a step", Job(rank=size))


def measure_batch(size: int) -> None:
    """`size` rows of 64 tokens a step."""
    _train(Meter(size), "a step", Job(batch=size))


WARM = Job(hidden=32, layers=1, length=8, batch=1)  # loads every library before memory is read


def _train(meter: Meter, name: str, job: Job) -> None:
    """The median processor time of a step after the first ones, and the memory of the training."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _trainer(Path(folder), WARM).train()
        held = memory_mb("VmRSS")
        trainer = _trainer(Path(folder), job)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        trainer.train()
        peak = memory_mb("VmHWM")
        marks = next(one.marks for one in _callbacks(trainer) if hasattr(one, "marks"))[
            -STEPS - 1 :
        ]
        wall, cpu = (_median(list(times)) for times in zip(*marks, strict=True))
        meter.tell(name, cpu, wall, peak - held, peak - held)


def _callbacks(trainer: Any) -> list[Any]:
    return list(trainer.callback_handler.callbacks)


def _median(times: list[float]) -> float:
    return statistics.median(b - a for a, b in zip(times, times[1:], strict=False))


def _trainer(folder: Path, job: Job) -> Any:
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainer_backend import SFTConfig, SFTTrainer

    sizes = {"hidden_size": job.hidden, "intermediate_size": 3 * job.hidden}
    more = {"num_hidden_layers": job.layers, "max_position_embeddings": 2 * max(job.length, 256)}
    model = build(folder / "model", **sizes, **more)
    args = SFTConfig(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=job.batch,
        max_steps=STEPS + WARM_UP,
        max_length=job.length,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    adapter = LoraConfig(r=job.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=args,
        train_dataset=_rows(job),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=None if job.full else adapter,
        callbacks=[_fresh_stopwatch()],
    )


def _fresh_stopwatch() -> Any:
    watch: Any = stopwatch()
    watch.marks = []
    return watch


def _rows(job: Job) -> Any:
    """Equal rows of random tokens, the second half of each to be learned."""
    from datasets import Dataset

    ids = [4 + (7 * at) % (VOCABULARY - 5) for at in range(job.length)]
    labels = [-100] * (job.length // 2) + ids[job.length // 2 :]
    rows = job.batch * 4
    return Dataset.from_dict({"input_ids": [ids] * rows, "labels": [labels] * rows})


def measure_processes(size: int) -> None:
    """A whole run by `size` processes that talk over gloo, as the app starts it."""
    import psutil

    from trainer_backend.data.store import create_from_rows
    from trainer_backend.estimation.timing import read_timing
    from trainer_backend.home import open_home
    from trainer_backend.recipe import Recipe
    from trainer_backend.runs import create_run
    from trainer_backend.scheduling import start_worker

    meter = Meter(size)
    with tempfile.TemporaryDirectory() as folder:
        home = open_home(Path(folder))
        sizes = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4}
        rows = [{"prompt": f"Say {n}", "response": f"{n}! " * 20} for n in range(4_000)]
        settings = {"base_model": str(build(home / "model", **sizes)), "max_steps": 12}
        settings |= {"num_processes": size, "precision": "fp32", "eval_fraction": 0.0}
        settings |= {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
        recipe = Recipe.from_dict({**settings, "save_steps": 0, "adapter": "lora"})
        run = create_run(home, recipe, create_from_rows(home, rows, name="n"), foreground=True)
        before, began, most = processor_seconds(), time.perf_counter(), 0.0
        worker = start_worker(run)
        while worker.poll() is None:
            most = max(most, _tree_mb(psutil.Process(worker.pid)))
            time.sleep(0.1)
        timing = read_timing(run.dir)
        if worker.returncode or timing is None:
            raise SystemExit(run.log_tail(30))
        whole = processor_seconds() - before
        meter.tell("a whole run", whole, time.perf_counter() - began, most, most)
        for phase in ("preparing", "training"):
            meter.tell(
                f"{phase}, the first process",
                timing.processor[phase],
                timing.seconds[phase],
                0.0,
                0.0,
            )


def _tree_mb(process: Any) -> float:
    """Memory of a process and its children, pages they share counted once (MB)."""
    import psutil

    found = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            found += one.memory_full_info().pss
        except psutil.Error:
            continue
    return found / 2**20
