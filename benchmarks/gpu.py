"""Speed, memory and MFU on one GPU: ours, trl and Unsloth, one process after the other.

    python -m benchmarks.gpu [--only lora-mixed qlora] [--seconds 600] [--profile 3] [--tiny]

LoRA, QLoRA and full training on batches of mixed length and packed. Every side gets the same model,
rows, adapter and batch; its real tokens are counted, not its padding. Losses of mixed batches must
agree with trl's defaults to 1 %. The table goes into benchmarks/RESULTS.md. --tiny is a dry run,
also on a CPU: its numbers mean nothing. What does not fit into --seconds is named at the end.
Changing row lengths and the longest row that fits are measured on their own; the latter by
--longest, which hands its further arguments over.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_profile import in_words
from benchmarks.gpu_sides import Side, all_sides
from benchmarks.throughput import AGREE, ROOT, make_reference, sample, starter
from benchmarks.tiny_model import ROWS, build

# the shape of a Llama 3.2 of 1.2 billion weights, which are random
ONE_BILLION: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
LEAST_S = 40.0  # that a side needs on a card, so that it is worth starting
COMPILES = 25  # steps until Unsloth has compiled all it compiles
RECORDS = {False: 120, True: 12}  # steps until most shapes were met again, mixed and packed


def main() -> int:
    """Run the chosen sides and print the table; 1 if losses differ, 2 without a card."""
    options, rest = read_options()
    if options.longest:
        command = [sys.executable, "-m", "benchmarks.longest", *rest]
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    if rest:
        raise SystemExit(f"Unknown arguments: {' '.join(rest)}")
    if not options.tiny and not has_card():
        print("No CUDA device is there, so nothing was measured. A dry run on the CPU: --tiny")
        return 2
    results, skipped = run_all(chosen(options.only), options)
    print("\n" + table(results))
    apart = differences(results)
    for line in [*apart[1], *skipped]:
        print(line)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0 if apart[0] <= AGREE else 1


def read_options() -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what is for the measurement of the longest row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="beginnings of names of sides")
    parser.add_argument("--list", action="store_true", help="print the names of all sides")
    parser.add_argument("--seconds", type=float, default=3600, help="end within so many seconds")
    parser.add_argument("--tiny", action="store_true", help="a dry run with a tiny model")
    parser.add_argument("--profile", type=int, default=0, help="steps under the profiler")
    parser.add_argument("--model", help="model folder; a random one of 1.2 B if not given")
    parser.add_argument("--data", type=Path, help="rows as .json or .jsonl (default: a sample)")
    parser.add_argument("--reference-python", help="a Python that has trl and liger-kernel")
    parser.add_argument("--unsloth-python", help="a Python that has unsloth")
    parser.add_argument("--json", type=Path, help="write all results into this file")
    parser.add_argument("--longest", action="store_true", help="the longest row that fits")
    options, rest = parser.parse_known_args()
    if options.list:
        print("\n".join(all_sides()))
        raise SystemExit(0)
    return options, rest


def has_card() -> bool:
    """Whether torch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


def chosen(only: list[str]) -> dict[str, Side]:
    """The sides named in `only`, by their whole names or how they begin; all without any."""
    sides = all_sides()
    unknown = [one for one in only if not any(name.startswith(one) for name in sides)]
    if unknown:
        raise SystemExit(f"There is no side {unknown[0]!r}; --list prints their names.")

    def begins(name: str, one: str) -> bool:
        return one not in sides and name.startswith(one)

    return {
        name: side
        for name, side in sides.items()
        if not only or any(name == one or begins(name, one) for one in only)
    }


def run_all(sides: dict[str, Side], options: argparse.Namespace) -> tuple[dict, list[str]]:
    """Results by name, and a sentence for each side that was left out or failed."""
    began = time.monotonic()
    folder = options.model or str(make_model(options.tiny))
    results, skipped = {}, []
    for name, side in sides.items():
        left = options.seconds - (time.monotonic() - began)
        if left < (5.0 if options.tiny else LEAST_S):
            skipped.append(f"left out, {max(0.0, left):.0f} s were left: {name}")
            continue
        try:
            python = python_of(side, options)
            results[name] = {"title": side.title, **run_side(python, name, folder, options, left)}
        except (subprocess.SubprocessError, OSError, RuntimeError) as error:
            skipped.append(f"failed: {name}: {(str(error).strip().splitlines() or ['?'])[-1]}")
            print(skipped[-1], flush=True)
            continue
        print(line(name, results[name]), flush=True)
        if results[name]["profile"]:
            print(in_words(results[name]["profile"], results[name]["ms_step"]), flush=True)
    return results, skipped


def make_model(tiny: bool) -> Path:
    """Folder of a model with random weights in bf16 and a tokenizer, made once."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = ROOT / "workspace" / ("bench-gpu-tiny" if tiny else "bench-gpu-1b")
    if (folder / "tokenizer.json").exists():
        return folder
    if tiny:
        return build(folder, hidden_size=64, intermediate_size=128)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model: Any = LlamaForCausalLM(LlamaConfig(**ONE_BILLION))
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="50GB")
    AutoTokenizer.from_pretrained(starter()).save_pretrained(folder)
    return folder


def rows_file(tiny: bool) -> Path:
    """The bundled conversations; for a dry run short rows of different lengths."""
    if not tiny:
        return sample()
    file = ROOT / "workspace" / "bench-gpu-rows.json"
    rows = [
        {"instruction": f"{one['prompt']}, please. " * (n % 4 + 1), "output": one["response"] * 3}
        for n, one in enumerate(ROWS)
    ]
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def python_of(side: Side, options: argparse.Namespace) -> str:
    """The Python that a side runs in; environments of the others are made once."""
    if side.who == "ours":
        return sys.executable
    if side.who == "trl":
        packages = ("trl", "peft", "liger-kernel", "bitsandbytes")
        return options.reference_python or make_reference("bench-gpu-trl", packages)
    if options.tiny and not options.unsloth_python:
        raise RuntimeError("Unsloth needs a GPU")
    return options.unsloth_python or make_reference("bench-gpu-unsloth", ("unsloth",), pin=False)


def run_side(
    python: str, name: str, folder: str, options: argparse.Namespace, left: float
) -> dict[str, Any]:
    """Train one side in its own process within `left` seconds; the last line is its result."""
    side = all_sides()[name]
    batch, warm, steps = (2, 1, 2) if options.tiny else (16, 5, 9 if side.packed else 16)
    if side.who == "unsloth" and not side.packed and not options.tiny:
        warm = COMPILES
    if "cuda_graphs" in side.settings and not options.tiny:
        warm = RECORDS[side.packed]
    script = str(Path(__file__).with_name("gpu_sides.py"))
    command = [python, script, "--side", name, "--model", folder]
    command += ["--data", str(options.data or rows_file(options.tiny)), "--batch", str(batch)]
    command += ["--max-length", "128" if options.tiny else "1024", "--warm", str(warm)]
    command += ["--steps", str(steps), "--profile", str(options.profile)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=left
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it did not end within the {left:.0f} s that were left") from None
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


# What is shown


def line(name: str, result: dict[str, Any]) -> str:
    """One printed result."""
    return (
        f"{name:<30}{result['tokens_per_second']:10,.0f} tokens/s {result['ms_step']:9.1f} ms "
        f"{result['memory_gb']:7.2f} GB  MFU {result['mfu']:6.1%}  "
        f"padding {result['padding']:.0%}  loss {result['losses'][-1]:.4f}"
    )


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown for benchmarks/RESULTS.md: a table for each method and kind of rows."""
    parts = []
    for group in dict.fromkeys("-".join(name.split("-")[:2]) for name in results):
        rows = {name: one for name, one in results.items() if name.startswith(f"{group}-")}
        first = next(iter(rows.values()))
        ours = rows.get(f"{group}-ours")
        parts.append(
            f"### {group.replace('-', ', ')}: {first['device']}, torch {first['torch']}, bf16 "
            f"products {first['ceiling_tflops']:.0f} TFLOP/s\n\n"
            "| | tokens/s | ms a step | tokens a step | peak memory | MFU | ours by it |\n"
            "|---|---|---|---|---|---|---|"
        )
        parts += [row(one, ours) for one in rows.values()]
        parts.append("")
    return "\n".join(parts)


def row(one: dict[str, Any], ours: dict[str, Any] | None) -> str:
    """A line of the table; the last cell is our speed and memory, this side's being 1."""
    ratio = ""
    if ours and ours is not one:
        speed = ours["tokens_per_second"] / one["tokens_per_second"]
        ratio = f"{speed:.2f}x, {ours['memory_gb'] / one['memory_gb']:.2f}x memory"
    return (
        f"| {one['title']} | {one['tokens_per_second']:,.0f} | {one['ms_step']:.1f} | "
        f"{one['tokens_step']:,.0f} ({one['trained_step']:,.0f} trained) | "
        f"{one['memory_gb']:.2f} GB | {one['mfu']:.1%} | {ratio} |"
    )


def differences(results: dict[str, dict[str, Any]]) -> tuple[float, list[str]]:
    """The largest relative difference of a step's loss, ours and trl's defaults, and sentences."""
    worst, lines = 0.0, []
    for method in ("lora", "qlora", "full"):
        ours, theirs = (results.get(f"{method}-mixed-{who}") for who in ("ours", "trl"))
        if ours is None or theirs is None:
            continue
        pairs = zip(ours["losses"], theirs["losses"], strict=False)
        apart = max(abs(a - b) / b for a, b in pairs)
        worst = max(worst, apart)
        lines.append(f"{method}: losses of ours and trl's defaults differ by up to {apart:.3%}")
    return worst, lines


if __name__ == "__main__":
    raise SystemExit(main())
