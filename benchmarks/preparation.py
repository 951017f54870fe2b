"""Rows a second from a raw dataset to a trainer that is ready, ours against trl on the same rows.

    python -m benchmarks.preparation [--data ROWS] [--rows N] [--reference-python PYTHON]

Each side prepares in a process of its own, in turn, with a model so small that it costs nothing;
what building a trainer costs besides its rows is taken off. Tokens and trained tokens must agree.
"""

import argparse
import json
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from benchmarks.throughput import make_reference, sample, starter

ROOT = Path(__file__).resolve().parent.parent
SIDES = ("ours", "reference")
SHAPES = {
    "text": "prompt and completion, text",
    "pairs": "prompt and completion, messages",
    "chats": "conversations, assistant's tokens only",
}
FEW, LEAST = 10, 5.0
# The reference needs generation markers in a template to find the assistant's tokens.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def main() -> int:
    """Measure every shape on both sides in turn; 1 if tokens differ or ours is not fast enough."""
    options = read_options()
    if options.side:
        print(json.dumps(measure(options)))
        return 0
    options.model = options.model or starter()
    options.data = options.data or sample()
    pythons = {"ours": sys.executable, "reference": options.reference_python or make_reference()}
    found: dict = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side in SIDES:
            found[side].append(run_side(pythons[side], side, options))
    return report(found, options)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder or id whose tokenizer is used; default: starter")
    parser.add_argument("--data", type=Path, help="rows as .json or .jsonl (default: a sample)")
    parser.add_argument("--rows", type=int, default=10_000, help="the data is repeated up to here")
    parser.add_argument("--rounds", type=int, default=2, help="times both sides run; best counts")
    parser.add_argument("--reference-python", help="a Python that has trl")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_side(python: str, side: str, options: argparse.Namespace) -> dict:
    """Measure one side in its own process; its last line of output is the result."""
    command = [python, "-m", "benchmarks.preparation", "--side", side, "--model", options.model]
    command += ["--data", str(options.data), "--rows", str(options.rows)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(options: argparse.Namespace) -> dict:
    """Seconds, processor seconds and tokens for each shape of rows, on one side."""
    from datasets import disable_caching, disable_progress_bars
    from transformers import AutoTokenizer

    disable_caching()
    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokenizer.chat_template = TEMPLATE
    found = {}
    for shape in SHAPES:
        rows = dataset_of(options, shape)
        build(options.side, shape, rows.select(range(FEW)), tokenizer)
        idle = build(options.side, shape, rows.select(range(FEW)), tokenizer)
        busy = build(options.side, shape, rows, tokenizer)
        spent = {name: busy[name] - idle[name] for name in ("seconds", "cpu")}
        found[shape] = {**spent, "tokens": busy["tokens"], "trained": busy["trained"]}
    return found


def build(side: str, shape: str, rows, tokenizer) -> dict:
    """Build a trainer and count what it would train on."""
    import numpy as np

    model = tiny_model(tokenizer)
    trainer_class, config = trainer_of(side, shape)
    wall, cpu = time.perf_counter(), time.process_time()
    trainer = trainer_class(
        model=model, args=config, train_dataset=rows, processing_class=tokenizer
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ready = trainer.train_dataset.with_format("arrow")[:]
    labels = ready["labels"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    tokens = len(ready["input_ids"].combine_chunks().flatten())
    trained = int(np.count_nonzero(labels != -100))
    return {"seconds": wall, "cpu": cpu, "tokens": tokens, "trained": trained}


def trainer_of(side: str, shape: str) -> tuple:
    """The trainer class and settings of a side."""
    shared = {
        "output_dir": str(ROOT / "workspace" / "bench-output"),
        "max_length": 1024,
        "assistant_only_loss": shape == "chats",
        "report_to": "none",
        "bf16": False,
    }
    if side == "ours":
        from trainer_backend import SFTConfig, SFTTrainer

        return SFTTrainer, SFTConfig(**shared)
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer, SFTConfig(**shared)


def tiny_model(tokenizer):
    """A model of one small layer for this tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size, **heads))


def dataset_of(options: argparse.Namespace, shape: str):
    """The rows of the data in one shape, repeated until there are enough."""
    from datasets import Dataset

    text = options.data.read_text(encoding="utf-8")
    lines = text.splitlines()
    rows = json.loads(text) if text.startswith("[") else [json.loads(one) for one in lines if one]
    talks = list(islice(cycle([talk_of(row) for row in rows]), options.rows))
    if shape == "chats":
        return Dataset.from_dict({"messages": talks})
    prompts, answers = [talk[:-1] for talk in talks], [talk[-1:] for talk in talks]
    if shape == "text":
        prompts = ["\n\n".join(turn["content"] for turn in turns) + "\n" for turns in prompts]
        answers = [turns[0]["content"] for turns in answers]
    return Dataset.from_dict({"prompt": prompts, "completion": answers})


def talk_of(row: dict) -> list[dict]:
    """One row as messages, from a chat or an Alpaca row."""
    if "messages" in row:
        return row["messages"]
    given = f"{row['instruction']}\n\n{row.get('input') or ''}".strip()
    return [{"role": "user", "content": given}, {"role": "assistant", "content": row["output"]}]


def report(found: dict, options: argparse.Namespace) -> int:
    """Print rows a second and ratios."""
    good = True
    for shape, title in SHAPES.items():
        best = {side: min(run[shape]["seconds"] for run in found[side]) for side in SIDES}
        cpu = {side: min(run[shape]["cpu"] for run in found[side]) for side in SIDES}
        counts = {
            (run[shape]["tokens"], run[shape]["trained"]) for side in SIDES for run in found[side]
        }
        ratio = best["reference"] / best["ours"]
        good = good and len(counts) == 1 and ratio >= LEAST
        speeds = [options.rows / best[side] for side in SIDES]
        print(
            f"{title:<40}{speeds[0]:9,.0f} rows/s, trl {speeds[1]:7,.0f}: {ratio:5.2f}x, "
            f"{cpu['reference'] / cpu['ours']:5.2f}x per processor second; (tokens, trained) "
            f"{' against '.join(map(str, sorted(counts)))}",
            flush=True,
        )
    if options.json:
        print(json.dumps(found))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
