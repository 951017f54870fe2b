"""What a dataset costs by its number of rows: storing, browsing, splitting, counting, preparing.

Rows are made on the fly and never held together: made rows of about 110 characters, each another.
"""

import random
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.data import make_rows, sentences
from benchmarks.scaling.meter import Meter
from benchmarks.tiny_model import build

PAGE = 25
PACK_LENGTH = 256  # tokens; the made rows have about 150
STREAMED = 10_000_000  # rows from which nothing is stored: only the checks see them
KINDS = 200_000  # different rows of a stream, each with its number


def measure_rows(size: int) -> None:
    """Every step of a dataset of `size` rows, in this process."""
    meter = Meter(size)
    if size >= STREAMED:
        with tempfile.TemporaryDirectory() as folder:
            measure_stream(meter, Path(folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        dataset = _stored(meter, home)
        _browse(meter, dataset)
        with meter.step("hold rows out"):
            dataset.split(0.05, 1)
        _count(meter, home, dataset)
        _prepare(meter, home, dataset)


def measure_stream(meter: Meter, folder: Path) -> None:
    """Only the checks over all rows: of each, 64 bytes of its sketch are written, and no text."""
    from trainer_backend.data.checks import Checker
    from trainer_backend.data.formats import Example

    checker = Checker("stream", folder)
    with meter.step("check rows, one by one"):
        for number, (asked, answer) in enumerate(_numbered(meter.size), start=1):
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            checker.see(Example(number, turns, None))
    with meter.step("compare all rows"):
        checker.finish()


def _numbered(count: int) -> Iterator[tuple[str, str]]:
    """Pairs that differ in a number and in the words around it."""
    kinds = list(islice(sentences(random.Random(1)), KINDS))
    for number in range(count):
        asked, _ = kinds[number % KINDS]
        _, answer = kinds[(7 * number + number // KINDS) % KINDS]
        yield f"{number} {asked}", answer


def _stored(meter: Meter, home: Path) -> Any:
    from trainer_backend.data.store import create_dataset
    from trainer_backend.home import open_home

    open_home(home)
    path = make_rows(meter.size, home, "jsonl")
    with meter.step("read, check, store"):
        dataset = create_dataset(home, path)
    path.unlink()
    return dataset


def _browse(meter: Meter, dataset: Any) -> None:
    middle = dataset.num_rows // 2
    looks: dict[str, Callable[[], object]] = {
        "a page of rows": lambda: dataset.page(middle, PAGE),
        "a page, longest first": lambda: dataset.page(middle, PAGE, sort="longest"),
        "a search": lambda: dataset.page(0, PAGE, query="zebra"),
        "one row's example": lambda: dataset.example(middle),
    }
    for name, look in looks.items():
        with meter.step(name):
            look()


def _count(meter: Meter, home: Path, dataset: Any) -> None:
    from transformers import AutoTokenizer

    from trainer_backend.estimation.lengths import row_lengths
    from trainer_backend.estimation.plan import plan_run
    from trainer_backend.recipe import Recipe
    from trainer_backend.tokens.counts import token_lengths

    tokenizer = AutoTokenizer.from_pretrained(build(home / "model"))
    with meter.step("count tokens"):
        report = token_lengths(dataset, tokenizer)
    for packing in (False, True):
        recipe = Recipe.from_dict({"packing": packing, "max_length": PACK_LENGTH})
        with meter.step(f"plan a run{', packed' if packing else ''}"):
            plan_run(recipe, dataset, row_lengths(dataset, recipe, report))


def _prepare(meter: Meter, home: Path, dataset: Any) -> None:
    from datasets import disable_progress_bars
    from transformers import AutoTokenizer

    from trainer_backend.tokens.encode import EncodeOptions
    from trainer_backend.tokens.prepare import Preparation, prepare_dataset
    from trainer_backend.tokens.training_rows import training_dataset
    from trainer_backend.training.batches import group_by_length

    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    for strategy in (None, "bfd"):
        options = EncodeOptions(
            max_length=None if strategy else PACK_LENGTH, assistant_only_loss=True
        )
        plan = Preparation(
            tokenizer, options, packing=strategy, pack_length=PACK_LENGTH, shuffle_seed=1
        )
        with meter.step(f"turn rows into tokens{' and pack them' if strategy else ''}"):
            rows = training_dataset(dataset, "", home / "rows")
            prepared, _ = prepare_dataset(rows, plan)
        if strategy is None:
            with meter.step("order an epoch by length"):
                order = group_by_length(prepared, 8, 1)
                assert order is not None
                sum(1 for _ in order)
