"""Training speed and memory, ours against trl on the same machine, model, rows, adapter and batch.

    python -m benchmarks.throughput [--model ID] [--data ROWS] [--reference-python PYTHON]

Each side trains in a process of its own, one after the other, and reports real (not padding)
tokens a second, peak memory and its losses; the losses must agree to 1 %. Without
--reference-python an environment with trl is made once under workspace/. It holds no library code.
"""

import argparse
import json
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = ("ours", "ours-checkpointing")
REFERENCES = ("reference-defaults", "reference-best")
SIDES = OURS + REFERENCES
TITLES = {
    "ours": "SFT Studio",
    "ours-checkpointing": "SFT Studio, checkpointing",
    "reference-defaults": "trl, defaults",
    "reference-best": "trl, best",
}
AGREE = 0.01


def main() -> int:
    """Run all sides and print the comparison; 1 if the losses do not agree."""
    options = read_options()
    if options.side:
        print(json.dumps(train(options)))
        return 0
    options.model = options.model or starter()
    options.data = options.data or sample()
    reference = options.reference_python or make_reference()
    results = {}
    for side in SIDES:
        python = sys.executable if side in OURS else reference
        results[side] = run_side(python, side, options)
        print(line(TITLES[side], results[side]), flush=True)
    return report(results, options)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="model folder or id; the starter model if not given")
    parser.add_argument("--data", type=Path, help="rows as .json or .jsonl (default: a sample)")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--full", action="store_true", help="train all weights, no adapter")
    parser.add_argument("--reference-python", help="a Python that has trl")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def sample() -> Path:
    """The bundled conversations."""
    sys.path.insert(0, str(ROOT))
    from trainer_backend.recipe import samples

    return next(one.path for one in samples() if one.id == "support_chats")


def starter() -> str:
    """Folder of the starter model, fetched if it is not there yet."""
    sys.path.insert(0, str(ROOT))
    from trainer_backend.home import open_home
    from trainer_backend.models.loaded.starter import fetch_starter

    return str(fetch_starter(open_home(), lambda *_: None))


def make_reference(
    name: str = "bench-reference", packages: tuple[str, ...] = ("trl", "peft"), pin: bool = True
) -> str:
    """Make an environment with other trainers beside this checkout, once; `pin`: with our torch."""
    folder = ROOT / "workspace" / name
    python, made = folder / "bin" / "python", folder / "made"
    if not made.exists():
        venv.create(folder, with_pip=True, clear=True)
        wanted = ["torch==2.13.0", *packages] if pin else list(packages)
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
        made.touch()
    return str(python)


def run_side(python: str, side: str, options: argparse.Namespace) -> dict:
    """Train one side in its own process; its last line of output is the result."""
    command = [
        python,
        __file__,
        "--side",
        side,
        "--model",
        options.model,
        "--data",
        str(options.data),
    ]
    for name in ("rows", "batch", "max_length", "threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    command += ["--full"] if options.full else []
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"{TITLES[side]} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def train(options: argparse.Namespace) -> dict:
    """Train with one side's trainer in this process."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if options.threads:
        torch.set_num_threads(options.threads)
    trainer_class, config = trainer_of(options)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    trainer = trainer_class(
        model=model,
        args=config,
        train_dataset=rows_of(options),
        processing_class=tokenizer,
        peft_config=None if options.full else adapter(),
        callbacks=[stopwatch()],
    )
    trainer.train()
    watch = next(c for c in trainer.callback_handler.callbacks if hasattr(c, "marks"))
    logs = [row for row in trainer.state.log_history if "loss" in row]
    tokens = logs[-1]["num_tokens"] - logs[0]["num_tokens"]  # the first step warms up
    wall, cpu = (last - first for first, last in zip(watch.marks[0], watch.marks[-1], strict=True))
    return {
        "tokens_per_second": tokens / wall,
        "tokens_per_cpu_second": tokens / cpu,
        "memory_gb": peak_memory_gb(),
        "losses": [row["loss"] for row in logs],
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": trainer.args.device.type,
        "matmul_gflops": matmul_speed(trainer.args.device),
    }


def trainer_of(options: argparse.Namespace) -> tuple:
    """The trainer class and settings of a side."""
    import torch

    shared = {
        "output_dir": str(ROOT / "workspace" / "bench-output"),
        "per_device_train_batch_size": options.batch,
        "max_length": options.max_length,
        "num_train_epochs": 1,
        "learning_rate": 2e-4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 1,
    }
    if options.side in OURS:
        sys.path.insert(0, str(ROOT))
        from trainer_backend import SFTConfig, SFTTrainer

        saving = options.side == "ours-checkpointing"
        return SFTTrainer, SFTConfig(**shared, gradient_checkpointing=saving)
    from trl import SFTConfig, SFTTrainer

    own = {} if torch.cuda.is_available() else {"use_cpu": True}
    if options.side == "reference-best":
        own |= {"bf16": True, "gradient_checkpointing": False}
    return SFTTrainer, SFTConfig(**shared, **own)


def adapter():
    """The same adapter for all sides."""
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def rows_of(options: argparse.Namespace):
    """Conversations with a prompt and a completion, from chats or Alpaca rows."""
    from datasets import Dataset

    text = options.data.read_text(encoding="utf-8")
    lines = text.splitlines()
    rows = (
        json.loads(text) if text.startswith("[") else [json.loads(line) for line in lines if line]
    )
    rows = (rows * (options.rows // len(rows) + 1))[: options.rows]  # repeated if more are asked
    if "messages" in rows[0]:
        talks = [row["messages"] for row in rows]
        return Dataset.from_dict(
            {"prompt": [t[:-1] for t in talks], "completion": [t[-1:] for t in talks]}
        )
    given = [f"{row['instruction']}\n\n{row.get('input') or ''}".strip() for row in rows]
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": text}] for text in given],
            "completion": [[{"role": "assistant", "content": row["output"]}] for row in rows],
        }
    )


def stopwatch():
    """A callback that notes wall and processor time after every step."""
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        marks = []

        def on_step_end(self, args, state, control, **kwargs):
            self.marks.append((time.perf_counter(), time.process_time()))

    return Stopwatch()


def peak_memory_gb() -> float:
    """Most memory this process ever held, on the device that trains."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9


def matmul_speed(device) -> float:
    """Billions of operations a second in a bfloat16 matrix product: the ceiling of this machine."""
    import torch

    side, best = 2048, float("inf")
    a, b = (torch.ones(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    for _ in range(5):
        start = time.perf_counter()
        (a @ b).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9


def line(title: str, result: dict) -> str:
    """One row of the printed table."""
    speed, memory = result["tokens_per_second"], result["memory_gb"]
    share = 4 * result["parameters"] * speed / 1e9 / result["matmul_gflops"]
    last = result["losses"][-1]
    return (
        f"{title:<26}{speed:9.1f} tokens/s {memory:7.2f} GB {share:6.0%} of matmul  loss {last:.4f}"
    )


def ratios(ours: dict, other: dict) -> str:
    """Speed and memory of one side, another's being 1."""
    wall = ours["tokens_per_second"] / other["tokens_per_second"]
    cpu = ours["tokens_per_cpu_second"] / other["tokens_per_cpu_second"]
    memory = ours["memory_gb"] / other["memory_gb"]
    return f"{wall:.2f}x tokens/s, {cpu:.2f}x per core-second, {memory:.2f}x memory"


def report(results: dict, options: argparse.Namespace) -> int:
    """Print ratios and whether the losses agree."""
    apart = 0.0
    for one in OURS:
        for other in REFERENCES:
            print(f"{TITLES[one]} against {TITLES[other]}: {ratios(results[one], results[other])}")
            pairs = zip(results[one]["losses"], results[other]["losses"], strict=True)
            apart = max([apart, *(abs(a - b) / b for a, b in pairs)])
    print(f"largest difference of a step's loss: {apart:.2%}")
    if options.json:
        print(json.dumps(results))
    return 0 if apart <= AGREE else 1


if __name__ == "__main__":
    raise SystemExit(main())
