"""The longest row that trains in a given memory, on whatever device is there.

    python -m benchmarks.longest [--model tiny|1b|8b|FOLDER] [--gb 24] [--rank 32] [--bits 4]

The length is doubled until it no longer fits, then found by halving the interval. Each try is one
optimizer step of LoRA (QLoRA with --bits 4) with batch 1 in a process of its own, so that nothing
is left of the one before. --gb limits the memory: on a GPU what torch may take, on a CPU the data
of the process beyond its libraries. The shapes have random weights: nothing is downloaded.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 448, "num_hidden_layers": 8}
    | {"num_attention_heads": 4, "num_key_value_heads": 1, "vocab_size": 512},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256}
    | {"tie_word_embeddings": True},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
}
CLOSE = 0.03  # of the length: the interval is halved until it is no wider
FULL = ("out of memory", "can't allocate memory", "Cannot allocate memory", "bad_alloc")


@dataclass(frozen=True)
class Try:
    """One step with a row of `tokens`; `why` are the last words of one that failed."""

    tokens: int
    fits: bool
    peak_gb: float = 0.0  # 10^9 bytes; 0: not measured
    seconds: float = 0.0
    how: str = ""
    why: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Find and print the longest row; 1 if not even the shortest one fits."""
    options = read_options(arguments)
    if options.one:
        print(json.dumps(asdict(step(options, options.one))))
        return 0
    best = longest(lambda tokens: in_a_process(options, tokens), options.first, options.most)
    memory = f"{options.gb:g} GB" if options.gb else "all memory"
    if best is None:
        print(f"{options.model}: a row of {options.first:,} tokens does not fit into {memory}")
        return 1
    print(f"{options.model}, rank {options.rank}, {options.bits} bits, {memory}: {best.tokens:,}")
    return 0


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny", help="tiny, 1b, 8b (random weights), a folder")
    parser.add_argument("--gb", type=float, default=0.0, help="10^9 bytes (default: all there is)")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--bits", type=int, choices=(4, 16), default=4)
    parser.add_argument("--first", type=int, default=1024, help="tokens of the first try")
    parser.add_argument("--most", type=int, default=1 << 21, help="no longer row is tried")
    parser.add_argument("--plain", action="store_true", help="keep all activations: long_rows=off")
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def longest(attempt: Callable[[int], Try], first: int, most: int) -> Try | None:
    """The longest row that fits, by doubling and then halving; each try is printed."""
    best, length, limit = None, first, 0
    while length <= most and not limit:
        tried = told(attempt(length))
        best, limit = (tried, 0) if tried.fits else (best, length)
        length = min(2 * length, most) if length < most else most + 1
    while best is not None and limit - best.tokens > max(1, CLOSE * best.tokens):
        tried = told(attempt((best.tokens + limit) // 2))
        best, limit = (tried, limit) if tried.fits else (best, tried.tokens)
    return best


def told(tried: Try) -> Try:
    """Print a line about a try."""
    if tried.fits:
        peak = f", {tried.peak_gb:.2f} GB" if tried.peak_gb else ""
        print(f"{tried.tokens:>9,} tokens: {tried.seconds:.1f} s{peak}. {tried.how}", flush=True)
    else:
        print(f"{tried.tokens:>9,} tokens: {tried.why}", flush=True)
    return tried


def in_a_process(options: argparse.Namespace, tokens: int) -> Try:
    """One try; it does not fit if its process ran out of memory or was killed for it.

    Raises RuntimeError with its last words when it failed for another reason.
    """
    given = [f"--{name}={getattr(options, name)}" for name in ("model", "gb", "rank", "bits")]
    given += ["--plain"] if options.plain else []
    command = [sys.executable, "-m", "benchmarks.longest", *given, f"--one={tokens}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return Try(**json.loads(done.stdout.splitlines()[-1]))
    if done.returncode < 0 or any(word in done.stderr for word in FULL):
        return Try(tokens, False, why="out of memory")
    raise RuntimeError(done.stderr[-2000:])


def step(options: argparse.Namespace, tokens: int) -> Try:
    """One optimizer step in this process, within the memory that is allowed."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig

    from benchmarks.tiny_model import build
    from trainer_backend import SFTConfig, SFTTrainer
    from trainer_backend.training.steps.long_rows import Way
    from trainer_backend.worker.memory import least_way

    class Frugal(SFTTrainer):
        def _way(self) -> Way:
            return least_way(self)

    limit(options.gb, torch.cuda.is_available())
    with tempfile.TemporaryDirectory() as temporary:
        args = SFTConfig(
            temporary,
            max_length=None,
            max_steps=1,
            per_device_train_batch_size=1,
            optim="adamw_torch",
            bf16=torch.cuda.is_available(),
            dataset_kwargs={"skip_prepare_dataset": True},
            long_rows="off" if options.plain else "auto",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        ids = [17 + n % 200 for n in range(tokens)]
        trainer = Frugal(
            open_shape(options, tokens),
            args,
            train_dataset=Dataset.from_list([{"input_ids": ids, "labels": ids}]),
            processing_class=_tokenizer(build(Path(temporary) / "tokenizer")),
            peft_config=LoraConfig(
                r=options.rank, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )
        began = time.monotonic()
        trainer.train()
        peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
        how = " ".join(trainer.paths.sentences)
        return Try(tokens, True, peak, time.monotonic() - began, how)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def limit(gigabytes: float, on_gpu: bool) -> None:
    """Let this process take no more memory from now on (0: as much as there is)."""
    import torch

    if not gigabytes:
        return
    if on_gpu:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total))
        return
    most = int(psutil.Process().memory_info().data + gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def open_shape(options: argparse.Namespace, tokens: int) -> Any:
    """The model: of a folder, or a Llama of one of SHAPES with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.model not in SHAPES:
        return _open_folder(options, device)
    config = LlamaConfig(**SHAPES[options.model], max_position_embeddings=tokens)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(dtype)
    for layer in model.model.layers:
        _fill(layer, device, dtype, options.bits)
    _fill(model, device, dtype, 16)
    model.tie_weights()
    with torch.device(device):  # its inverse frequencies are no weights
        model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.is_loaded_in_4bit = options.bits == 4
    return model


def _open_folder(options: argparse.Namespace, device: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    packed = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
    return AutoModelForCausalLM.from_pretrained(
        options.model,
        dtype=dtype,
        device_map={"": device},
        quantization_config=packed if options.bits == 4 else None,
    )


def _fill(module: Any, device: str, dtype: Any, bits: int) -> None:
    """Give every weight that has no memory yet random numbers; linear ones of a layer `bits`."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if bits == 4 and type(child) is torch.nn.Linear and child.weight.is_meta:
                quick = Linear4bit(
                    child.in_features, child.out_features, False, dtype, quant_type="nf4"
                )
                drawn = torch.randn(child.weight.shape, dtype=dtype, device=device) * 0.02
                quick.weight = Params4bit(drawn, requires_grad=False, quant_type="nf4")
                setattr(parent, name, quick.to(device))
        for name, weight in list(parent.named_parameters(recurse=False)):
            if weight.is_meta:
                drawn = torch.randn(weight.shape, dtype=dtype, device=device) * 0.02
                drawn = drawn if weight.dim() > 1 else drawn + 1
                setattr(parent, name, torch.nn.Parameter(drawn))


if __name__ == "__main__":
    sys.exit(main())
