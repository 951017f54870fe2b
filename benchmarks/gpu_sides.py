"""One side of the comparison on a GPU, trained in a process of its own: ours, trl or Unsloth.

Prints its result as JSON in the last line. Runs in environments without this library's packages,
so only the side itself is imported.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.throughput import adapter, peak_memory_gb, rows_of  # noqa: E402

BF16 = {"dtype": "bfloat16"}


@dataclass(frozen=True)
class Side:
    """Who trains what, with which settings of its own."""

    who: str  # "ours", "trl" or "unsloth"
    method: str  # "lora", "qlora" or "full"
    packed: bool
    title: str
    settings: dict[str, Any] = field(default_factory=dict)


def all_sides() -> dict[str, Side]:
    """Every side by its name, such as “lora-mixed-ours”."""
    best = {"model_init_kwargs": BF16, "gradient_checkpointing": False}
    sides = {}
    for method in ("lora", "qlora", "full"):
        for packed in (False, True):
            ways: list[tuple[str, str, str, dict[str, Any]]] = [
                ("ours", "ours", "SFT Studio", {}),
                (
                    "ours-checkpointing",
                    "ours",
                    "SFT Studio, checkpointing",
                    {"gradient_checkpointing": True},
                ),
                ("ours+graphs", "ours", "SFT Studio, CUDA graphs", {"cuda_graphs": True}),
                ("trl", "trl", "trl, defaults", {}),
                ("trl-best", "trl", "trl, best (bf16 weights, no checkpointing)", best),
                (
                    "trl-liger",
                    "trl",
                    "trl, best with liger",
                    {**best, "use_liger_kernel": True},
                ),
                ("unsloth", "unsloth", "Unsloth", {}),
            ]
            if not packed:
                by_length = {**best, "train_sampling_strategy": "group_by_length"}
                ways.insert(5, ("trl-grouped", "trl", "trl, best, grouped by length", by_length))
            for name, who, title, settings in ways:
                key = f"{method}-{'packed' if packed else 'mixed'}-{name}"
                sides[key] = Side(who, method, packed, title, settings)
    return sides


def read_options() -> argparse.Namespace:
    """The command line, as benchmarks/gpu passes it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--warm", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--profile", type=int, default=0, help="steps under the profiler")
    return parser.parse_args()


def main() -> None:
    """Train the side and print its result."""
    options = read_options()
    side = all_sides()[options.side]
    began = time.perf_counter()
    trainer = unsloth_trainer(side, options) if side.who == "unsloth" else trainer_of(side, options)
    ready = time.perf_counter() - began
    result = measured(trainer, side, options)
    print(json.dumps({**result, "setup_s": round(ready, 1)}))


def settings_of(side: Side, options: argparse.Namespace) -> dict[str, Any]:
    """What all sides share, and the side's own."""
    import torch

    shared = {
        "output_dir": str(ROOT / "workspace" / "bench-output"),
        "per_device_train_batch_size": options.batch,
        "gradient_accumulation_steps": 1,
        "max_length": options.max_length,
        "learning_rate": 2e-5 if side.method == "full" else 2e-4,
        "max_steps": options.warm + options.steps + options.profile,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 42,
        "packing": side.packed,
        **side.settings,
    }
    if side.method == "qlora":
        shared["optim"] = "paged_adamw_8bit"
    if not torch.cuda.is_available() and side.who == "trl":
        shared["use_cpu"] = True
    return shared


def four_bits() -> dict[str, Any]:
    """Loading in nf4 with double quantisation (QLoRA, arXiv 2305.14314), for every side alike."""
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    placed = {"device_map": {"": 0}} if torch.cuda.is_available() else {}
    return {"quantization_config": config, **placed}


def data_of(side: Side, options: argparse.Namespace) -> Any:
    """As many rows as the steps need; packed rows hold several."""
    steps = options.warm + options.steps + options.profile + 2
    options.rows = options.batch * steps * (12 if side.packed else 1)
    return rows_of(options)


def trainer_of(side: Side, options: argparse.Namespace) -> Any:
    """Our trainer or trl's, ready to train."""
    trainer_class: Any
    config_class: Any
    if side.who == "ours":
        from trainer_backend import SFTConfig, SFTTrainer

        trainer_class, config_class = SFTTrainer, SFTConfig
    else:
        import trl

        trainer_class, config_class = trl.SFTTrainer, trl.SFTConfig
    settings = settings_of(side, options)
    if side.method == "qlora":
        given = dict(settings.get("model_init_kwargs") or (BF16 if side.who == "trl" else {}))
        settings["model_init_kwargs"] = {**given, **four_bits()}
    return counting(trainer_class)(
        model=options.model,
        args=config_class(**settings),
        train_dataset=data_of(side, options),
        peft_config=None if side.method == "full" else adapter(),
    )


def unsloth_trainer(side: Side, options: argparse.Namespace) -> Any:
    """Unsloth with its own model and trainer; prompts and completions become tokens before."""
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    import torch
    import unsloth  # first: it changes what is imported after it
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
        options.model,
        max_seq_length=options.max_length,
        dtype=torch.bfloat16,
        load_in_4bit=side.method == "qlora",
        full_finetuning=side.method == "full",
    )
    if side.method != "full":
        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = unsloth.FastLanguageModel.get_peft_model(
            model,
            r=16,
            lora_alpha=32,
            lora_dropout=0,
            target_modules=names,
            use_gradient_checkpointing=False,
        )
    settings = {**settings_of(side, options), "bf16": True, "gradient_checkpointing": False}
    rows = tokenised(data_of(side, options), tokenizer, options.max_length)
    return counting(SFTTrainer)(
        model=model, args=SFTConfig(**settings), train_dataset=rows, processing_class=tokenizer
    )


def tokenised(rows: Any, tokenizer: Any, max_length: int) -> Any:
    """Token ids and labels (-100 on prompts) of prompts and completions."""
    from datasets import Dataset

    ids, labels = [], []
    for row in rows:
        head = tokenizer.apply_chat_template(
            row["prompt"], tokenize=False, add_generation_prompt=True
        )
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)
        prompt = tokenizer(head, add_special_tokens=False)["input_ids"]
        tokens = tokenizer(whole, add_special_tokens=False)["input_ids"][:max_length]
        ids.append(tokens)
        labels.append([-100] * min(len(prompt), len(tokens)) + tokens[len(prompt) :])
    masks = [[1] * len(one) for one in ids]
    return Dataset.from_dict({"input_ids": ids, "labels": labels, "attention_mask": masks})


# Measuring


def measured(trainer: Any, side: Side, options: argparse.Namespace) -> dict[str, Any]:
    """Train; count and time the steps after the warm-up, then profile some if asked to."""
    import torch

    peak = ceiling(trainer.args.device)
    marks = watch(trainer, options)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    part = trainer.seen[marks["from"][1] : marks["to"][1]]
    tokens, trained, slots = (sum(int(row[i]) for row in part) for i in range(3))
    seconds = marks["to"][0] - marks["from"][0]
    shape = trainer.model.config.to_dict()
    operations = useful_operations(shape, tokens, trained, side.method == "full")
    profile = marks.get("profile")
    return {
        "tokens_per_second": tokens / seconds,
        "ms_step": 1000 * seconds / options.steps,
        "tokens_step": tokens / options.steps,
        "trained_step": trained / options.steps,
        "padding": 1 - tokens / slots,
        "memory_gb": marks["memory"],
        "mfu": operations / seconds / peak,
        "ceiling_tflops": peak / 1e12,
        "losses": [float(one) for one in trainer.losses[: options.warm + options.steps]],
        "device": device_name(),
        "torch": torch.__version__,
        "profile": profile.found if profile else None,
    }


def counting(trainer_class: Any) -> Any:
    """The trainer with the tokens (`seen`) and the loss (`losses`) of each step noted."""

    class Counting(trainer_class):
        seen: list[tuple[Any, Any, int]] = []
        losses: list[Any] = []

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self.seen.append(counted(inputs))
            loss = super().training_step(model, inputs, *args, **kwargs)
            self.losses.append(loss.detach())
            return loss

    return Counting


def watch(trainer: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Note the time at both ends of what is measured, the memory, and profile what follows."""
    from transformers import TrainerCallback

    from benchmarks.gpu_profile import StepProfile

    marks: dict[str, Any] = {}
    last = options.warm + options.steps

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == options.warm:
                marks["from"] = (now(), len(trainer.seen))
            if state.global_step == last:
                marks["to"] = (now(), len(trainer.seen))
                marks["memory"] = peak_memory_gb()
                if options.profile:
                    marks["profile"] = StepProfile(options.profile)
                    marks["profile"].start()
            if options.profile and state.global_step == last + options.profile:
                now()
                marks["profile"].stop()

    trainer.add_callback(Watch())
    return marks


def counted(inputs: Any) -> tuple[Any, Any, int]:
    """(tokens, trained tokens, places) of a batch; padding and fillers of a row do not count."""
    labels, places = inputs["labels"], inputs["input_ids"].numel()
    mask, lengths = inputs.get("attention_mask"), inputs.get("seq_lengths")
    trained = (labels[:, 1:] != -100).sum()
    if mask is not None:
        return mask.sum(), trained, places
    if not lengths:
        return places, trained, places
    documents = (labels[0] != -100).split([int(one) for one in lengths])
    return sum(len(one) for one in documents if one.any()), trained, places


def now() -> float:
    """The time once the device has done all it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def ceiling(device: Any) -> float:
    """Operations a second of a large bf16 matrix product on random data, in this process."""
    import torch

    side, rounds = (8192, 20) if device.type == "cuda" else (512, 5)
    a, b = (torch.randn(side, side, device=device).to(torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    start = now()
    for _ in range(rounds):
        a @ b
    return 2 * side**3 * rounds / (now() - start)


def useful_operations(shape: dict[str, Any], tokens: int, trained: int, full: bool) -> int:
    """What the task needs: 4 (LoRA) or 6 (full) a weight and token, the head on trained tokens.

    Attention between tokens and recomputation are not counted, for any side.
    """
    hidden, heads = shape["hidden_size"], shape["num_attention_heads"]
    width = shape.get("head_dim") or hidden // heads
    attention = 2 * hidden * width * (heads + shape["num_key_value_heads"])
    layer = attention + 3 * hidden * shape["intermediate_size"]
    body, head = shape["num_hidden_layers"] * layer, shape["vocab_size"] * hidden
    return int((6 if full else 4) * (body * tokens + head * trained))


def device_name() -> str:
    """The card's name, or “CPU”."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


if __name__ == "__main__":
    main()
