"""Estimates against real runs: minutes and memory said before a run, and what it then took.

    python -m benchmarks.estimates [--quick] [--runs NAME ...] [--home DIR] [--again]

A set of short runs of two models goes through the command line in a fresh home. Each is estimated
before anything of it ran; the time also with the other runs of the set as history, never with the
run itself. --home keeps the runs, --again prints the table for those kept there, so that a change
of the formulas can be judged without new runs. Quiet machines only: other programs lengthen runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
KEPT, MODELS_KEPT = "estimates.json", "small-model"
WITHIN = {"memory": 0.15, "time": 0.30}
GIB = 2**30
COMMON = {"save_steps": 0, "eval_steps": 0, "learning_rate": 1e-4}
SMALL = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 8}


@dataclass(frozen=True)
class Case:
    """One run of the set: its model, data and settings."""

    name: str
    model: str  # "starter" (135M) or "small" (21M)
    data: str  # "orders" (80 tokens a row), "chats" (220), "pages" (900)
    settings: dict[str, Any] = field(default_factory=dict)
    quick: bool = False


def case(name: str, model: str, data: str, *, quick: bool = False, **settings: Any) -> Case:
    """A case by name: method-length-and-more; batch and steps are named b and n."""
    short = {"b": "per_device_train_batch_size", "n": "max_steps", "acc": ACCUMULATION}
    return Case(name, model, data, {short.get(k, k): v for k, v in settings.items()}, quick)


ACCUMULATION = "gradient_accumulation_steps"
CHECKPOINTING = {"gradient_checkpointing": True}
PACKED = {"packing": True, "max_length": 512}
CASES = (
    case("lora-short", "starter", "orders", adapter="lora", b=8, n=20, answer_check_rows=20),
    case("lora-chats", "starter", "chats", adapter="lora", b=4, n=16, quick=True),
    case("lora-pages", "starter", "pages", adapter="lora", b=1, acc=2, n=10),
    case("lora-fp32", "starter", "chats", adapter="lora", b=2, n=12, precision="fp32"),
    case("lora-packed", "starter", "orders", adapter="lora", b=2, n=10, **PACKED),
    case("lora-checkpointing", "starter", "chats", adapter="lora", b=4, n=12, **CHECKPOINTING),
    case("qlora-short", "starter", "orders", adapter="qlora", b=8, n=12),
    case("qlora-pages", "starter", "pages", adapter="qlora", b=1, n=8, **CHECKPOINTING),
    case("full-short", "starter", "orders", adapter="full", b=8, n=14, eval_steps=7),
    case("full-chats", "starter", "chats", adapter="full", b=2, n=12, optim="adafactor"),
    case("full-checkpointing", "starter", "pages", adapter="full", b=1, n=8, **CHECKPOINTING),
    case("small-lora-chats", "small", "chats", adapter="lora", b=8, n=30, quick=True),
    case("small-lora-saves", "small", "orders", adapter="lora", b=4, n=40, save_steps=10),
    case("small-qlora-chats", "small", "chats", adapter="qlora", b=4, n=20),
    case("small-full-pages", "small", "pages", adapter="full", b=2, n=20, quick=True),
    case("small-full-answers", "small", "orders", adapter="full", b=8, n=30, answer_check_rows=20),
)


def main() -> int:
    """Run the set, print a line a run and the verdict; 1 if an estimate is too far off."""
    options = read_options()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(options.home or temporary).resolve()
        chosen = [one for one in CASES if not options.quick or one.quick]
        if options.runs:
            chosen = [one for one in CASES if one.name in options.runs]
        if options.again:
            say_again(home)
        else:
            run_all(home, chosen)
        return report(home)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [one.name for one in CASES]
    parser.add_argument("--quick", action="store_true", help="three runs")
    parser.add_argument("--runs", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--home", help="a folder that keeps the runs")
    parser.add_argument("--again", action="store_true", help="print the runs kept in --home")
    return parser.parse_args()


def run_all(home: Path, chosen: list[Case]) -> None:
    """Run the cases one after the other and keep what was said and measured."""
    from trainer_backend.estimation.device import measure
    from trainer_backend.home import open_home, read_json, write_json

    open_home(home)
    models = prepare_models(home)
    data = prepare_data(home)
    print(f"the device: {measure(home)}", flush=True)
    for one in chosen:
        settings = {**COMMON, "base_model": models[one.model], **one.settings}
        print(f"{one.name} …", flush=True)
        told = said(home, settings, data[one.data])
        result = {**told, **train(home, settings, data[one.data]), "load": os.getloadavg()[0]}
        kept: dict[str, Any] = read_json(home / KEPT, {})
        write_json(home / KEPT, {**kept, one.name: {**result, "settings": settings}})


def say_again(home: Path) -> None:
    """Estimate the kept runs anew, with the formulas as they are now."""
    from trainer_backend.home import read_json, write_json

    kept: dict[str, Any] = read_json(home / KEPT, {})
    data = prepare_data(home)
    for one in CASES:
        if one.name in kept:
            kept[one.name] |= said(home, kept[one.name]["settings"], data[one.data])
    write_json(home / KEPT, kept)


def prepare_models(home: Path) -> dict[str, str]:
    """The starter model's folder, and that of a smaller one with random weights, made once."""
    from trainer_backend.models.loaded.starter import fetch_starter

    starter, small = fetch_starter(home, lambda *_: None), home / MODELS_KEPT
    if not (small / "config.json").is_file():
        make_small(starter, small)
    return {"starter": str(starter), "small": str(small)}


def make_small(starter: Path, folder: Path) -> None:
    """Write a model of the starter's family and tokenizer with a sixth of its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(starter)
    for name, value in {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2}.items():
        setattr(config, name, value)
    config.head_dim = SMALL["hidden_size"] // 4
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(starter).save_pretrained(folder)


def prepare_data(home: Path) -> dict[str, Path]:
    """The two samples, and pages: chats of which several in a row are one row."""
    from trainer_backend.recipe import samples

    paths = {one.id: one.path for one in samples()}
    chats, pages = paths["support_chats"], home / "pages.jsonl"
    rows = [json.loads(line) for line in chats.read_text(encoding="utf-8").splitlines()]
    joined = []
    for start in range(0, len(rows) - 4, 2):
        talks = [row["messages"] for row in rows[start : start + 4]]
        turns = [turn for talk in talks for turn in talk if turn["role"] != "system"]
        joined.append(json.dumps({"messages": turns}))
    pages.write_text("\n".join(joined), encoding="utf-8")
    return {"orders": paths["orders_to_json"], "chats": chats, "pages": pages}


def said(home: Path, settings: dict[str, Any], data: Path) -> dict[str, Any]:
    """The estimate before the run, with the tokens of the rows counted."""
    from trainer_backend.data.store import resolve_data
    from trainer_backend.estimation import estimate
    from trainer_backend.recipe import Recipe

    stored = resolve_data(home, str(data))
    recipe = Recipe.from_dict(settings)
    found = estimate(recipe, stored, home=home, lengths=counted(recipe, stored))
    memory = found.memory_gb.likely if found.memory_gb else None
    return {"memory_said": memory, "steps_said": found.steps, "based_on": found.based_on}


def counted(recipe: Any, stored: Any) -> Any:
    """The tokens of every row of a stored dataset, as the page counts them."""
    from trainer_backend.models.loaded.load import load_tokenizer
    from trainer_backend.tokens.counts import token_lengths

    return token_lengths(stored, load_tokenizer(Path(recipe.base_model)))


def train(home: Path, settings: dict[str, Any], data: Path) -> dict[str, Any]:
    """Train by the command line; returns the run's id and the most memory of its process."""
    command = [sys.executable, "-m", "trainer_backend", "train", "balanced", "--json"]
    command += ["--data", str(data), "--home", str(home)]
    preset = {"num_train_epochs": 1, "lora_dropout": 0.0, "gradient_accumulation_steps": 1}
    for name, value in {**preset, **settings}.items():
        command += ["--set", f"{name}={value}"]
    log = home / "last.log"
    with open(log, "wb") as out:
        child = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        most = 0
        while child.poll() is None:
            most = max(most, peak_bytes(child.pid))
            time.sleep(0.1)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if child.returncode:
        raise SystemExit("\n".join(lines[-20:]))
    summary = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
    return {"run": summary["id"], "memory": most / GIB}


def peak_bytes(pid: int) -> int:
    """The most memory that a process or one of its children has held so far (Linux)."""
    found = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in processes:
        with suppress(OSError), open(f"/proc/{one.pid}/status") as lines:
            high = next((line for line in lines if line.startswith("VmHWM:")), "VmHWM: 0 kB")
            found = max(found, int(high.split()[1]) * 1024)
    return found


def report(home: Path) -> int:
    """Print said against measured for every kept run, and the verdict."""
    from trainer_backend.home import read_json

    kept: dict[str, Any] = read_json(home / KEPT, {})
    print(f"\n{'run':<20}{'memory said':>13}{'took':>7}{'off':>7}", end="")
    print(f"{'seconds said':>15}{'took':>7}{'off':>7}{'with history':>15}{'off':>7}")
    apart: dict[str, list[float]] = {"memory": [], "time": [], "time with history": []}
    for name, one in kept.items():
        memory, time, corrected = errors_of(home, name, one)
        apart["memory"].append(memory)
        apart["time"].append(time)
        apart["time with history"].append(corrected)
    failed = False
    for what, errors in apart.items():
        allowed = WITHIN[what.split()[0]]
        good = sum(abs(one) <= allowed for one in errors)
        worst = max(map(abs, errors), default=0.0)
        print(f"{what}: {good} of {len(errors)} runs within {allowed:.0%}, worst {worst:.0%}")
        failed = failed or good < len(errors) and what != "time"
    return int(failed)


def errors_of(home: Path, name: str, one: dict[str, Any]) -> tuple[float, float, float]:
    """The errors of one run (memory, time, time with the others as history); prints its line."""
    from trainer_backend.estimation.timing import PHASES, read_timing

    timing = read_timing(home / "runs" / one["run"])
    assert timing is not None
    took = sum(timing.seconds.get(phase, 0.0) for phase in PHASES)
    alone, corrected = seconds_said(home, one)
    errors = tuple(
        part / whole - 1
        for part, whole in (
            (one["memory_said"] or 0.0, one["memory"]),
            (alone, took),
            (corrected, took),
        )
    )
    print(
        f"{name:<20}{one['memory_said']:>10.2f} GB{one['memory']:>7.2f}{errors[0]:>+7.0%}"
        f"{alone:>15.0f}{took:>7.0f}{errors[1]:>+7.0%}{corrected:>15.0f}{errors[2]:>+7.0%}",
        flush=True,
    )
    return errors[0], errors[1], errors[2]


def seconds_said(home: Path, one: dict[str, Any]) -> tuple[float, float]:
    """Seconds of a run as estimated without history, and with all other runs as history."""
    from trainer_backend.estimation.estimate import make_case
    from trainer_backend.estimation.speed import seconds_of
    from trainer_backend.hardware import hardware
    from trainer_backend.recipe import Recipe
    from trainer_backend.runs import Run

    run, machine = Run(home / "runs" / one["run"]), hardware()
    stored, recipe = run.dataset(), Recipe.from_dict(one["settings"])
    made = make_case(home, recipe, stored, machine, counted(recipe, stored))
    setup, _ = made.setup(recipe)
    known = (setup.shape, setup.plan, setup.recipe, machine, home)
    alone, _ = seconds_of(*known, history=False)
    corrected, _ = seconds_of(*known, without=one["run"])
    return alone.likely, corrected.likely


if __name__ == "__main__":
    sys.exit(main())
