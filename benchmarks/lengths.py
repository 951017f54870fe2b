"""What changing row lengths cost a device: matrix products and whole steps, fixed against changing.

    python -m benchmarks.lengths [--layers N] [--width N] [--rows N] [--rounds N]

Three courses take turns: one length, lengths that never repeat, and those filled to few lengths as
training does on a GPU. Printed are microseconds of the processor for each product, milliseconds of
a step, and whether filling pays on this device.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from trainer_backend.tokens.packing import filled_length

CLEAR = 0.95  # a step that takes less than this share of the changing one's time is faster
Course = list[int]


def courses(rows: int, count: int) -> dict[str, Course]:
    """Lengths of `count` rows around `rows` tokens, in an order that is always the same."""
    spread = rows // 8
    changing = [rows - spread + (n * 7919) % (2 * spread) for n in range(count)]
    return {
        "fixed": [round(statistics.fmean(changing))] * count,
        "changing": changing,
        "filled": [filled_length(n) for n in changing],
    }


def timed(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds until the processor has given all work away, and until the device has done it."""
    wait(device)
    start, busy = time.perf_counter(), time.process_time()
    work()
    given = time.process_time() - busy
    wait(device)
    return given, time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turn(
    works: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, tuple[float, float]]:
    """Medians of timed() for each work; the first round warms up and is left out."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for round_ in range(rounds + 1):
        for name, work in works.items():
            seconds = timed(work, device)
            if round_:
                found[name].append(seconds)
    return {
        name: (statistics.median(a for a, _ in all_), statistics.median(b for _, b in all_))
        for name, all_ in found.items()
    }


def products(lengths: dict[str, Course], width: int, device: torch.device) -> dict:
    """Products of a row with a square matrix and with a narrow one, as LoRA has them.

    Lengths of the changing course are new in each round: a library that looks for an algorithm once
    a shape finds none of them again.
    """
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    longest = max(max(course) for course in lengths.values()) + 10_000
    row = torch.randn(longest, width, device=device, dtype=dtype)
    square, narrow = (torch.randn(width, n, device=device, dtype=dtype) for n in (width, 16))
    rounds = {name: 0 for name in lengths}

    def multiply(name: str) -> None:
        shift, rounds[name] = rounds[name], rounds[name] + (name == "changing")
        for n in lengths[name]:
            part = row[: n + shift]
            torch.mm(part, square)
            torch.mm(part, narrow)

    return {name: lambda name=name: multiply(name) for name in lengths}


def steps(lengths: dict[str, Course], options: argparse.Namespace, device: torch.device) -> dict:
    """Forward and backward pass of a Llama with random weights; no changing length comes again."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=options.width,
        intermediate_size=3 * options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.width // 64,
        num_key_value_heads=options.width // 64,
        max_position_embeddings=2 * options.rows,
    )
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model: Any = LlamaForCausalLM(config)
    model.to(device, dtype)

    rounds = {name: 0 for name in lengths}

    def train(name: str) -> None:
        shift, rounds[name] = rounds[name], rounds[name] + (name == "changing")
        for n in lengths[name][:4]:
            ids = torch.zeros(1, n + shift, dtype=torch.long, device=device)
            model.model(input_ids=ids, use_cache=False)[0].float().mean().backward()
            model.zero_grad()

    return {name: lambda name=name: train(name) for name in lengths}


def main() -> int:
    """Measure both and print what was found."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=16 if cuda else 2)
    parser.add_argument("--width", type=int, default=2048 if cuda else 256)
    parser.add_argument("--rows", type=int, default=3072 if cuda else 384, help="tokens of a row")
    parser.add_argument("--rounds", type=int, default=9 if cuda else 5)
    options = parser.parse_args()
    device = torch.device("cuda" if cuda else "cpu")
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}")
    lengths = courses(options.rows, 32)
    each = in_turn(products(lengths, options.width, device), options.rounds, device)
    for course, (given, done) in each.items():
        per = 1e6 / (2 * len(lengths[course]))
        print(f"{course:<9} {given * per:8.1f} µs of the processor, {done * per:8.1f} µs a product")
    whole = in_turn(steps(lengths, options, device), options.rounds, device)
    for course, (given, done) in whole.items():
        tokens = sum(lengths[course][:4]) / 4
        print(f"{course:<9} {given * 250:8.1f} ms of the processor, {done * 250:8.1f} ms a step")
        print(f"{'':<9} of {tokens:,.0f} tokens")
    which = 1 if cuda else 0  # a CPU is shared with others: its own time counts
    pays = whole["filled"][which] < CLEAR * whole["changing"][which]
    print("Filling rows to few lengths " + ("pays here." if pays else "does not pay here."))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
