"""Mixes datasets by weights into one: how many rows each gives, and in which order.

The same datasets, weights and seed give the same mix, row for row.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer_backend.data.formats import ColumnMapping, Example
from trainer_backend.data.readers import Progress
from trainer_backend.data.store.build import Plan, build, counted, label
from trainer_backend.data.store.dataset import FROM, FROM_ROW, MixPart, StoredDataset, open_dataset
from trainer_backend.data.store.fingerprint import dataset_id as id_of
from trainer_backend.data.store.pages import NumberedRow
from trainer_backend.errors import UserError

MAX_PARTS = 20


def mix_datasets(
    home: Path,
    parts: Sequence[tuple[str, float]],
    *,
    name: str,
    seed: int,
    repeat: bool = False,
    on_progress: Progress | None = None,
) -> StoredDataset:
    """One dataset of (dataset id, weight) parts; the weights are the fractions of the result.

    No row is used twice, and the mix ends when one part is used up. With `repeat` the part that is
    largest for its weight is used whole and the rows of the others repeat. Held-out rows are not
    mixed in. Raises UserError for parts that cannot be mixed.
    """
    datasets = _open_parts(home, parts)
    sizes = [one.held_out["first"] if one.held_out else one.num_examples for one in datasets]
    counts = row_counts([weight for _, weight in parts], sizes, repeat)
    taken: list[MixPart] = [
        {"dataset_id": one.id, "name": one.name, "weight": weight, "size": size, "rows": count}
        for one, (_, weight), size, count in zip(datasets, parts, sizes, counts, strict=True)
    ]
    kind = "text" if datasets[0].format == "text" else "messages"
    rows_of = [[one["dataset_id"], one["rows"]] for one in taken]
    change = {"mix": rows_of, "seed": seed, "hashes": [one.hash for one in datasets]}
    plan = Plan(
        name=name,
        content=id_of(change),
        num_bytes=sum(one.num_bytes for one in datasets),
        mapping=_mapping(kind, datasets),
        kinds=("mix",),
        image_folders=tuple(one.dir for one in datasets),
        extra={"step": "mix", "parts": taken, "done": _sentence(taken), "source": {"mix": taken}},
    )
    rows = counted(_mixed(datasets, sizes, counts, seed), sum(counts), on_progress)
    return build(home, rows, plan)


def _open_parts(home: Path, parts: Sequence[tuple[str, float]]) -> list[StoredDataset]:
    where = "the mix"
    if not 2 <= len(parts) <= MAX_PARTS:
        raise UserError(
            f"{len(parts)} datasets cannot be mixed.", where, f"Choose 2 to {MAX_PARTS} datasets."
        )
    datasets = [open_dataset(home, dataset_id) for dataset_id, _ in parts]
    if len({one.id for one in datasets}) < len(datasets):
        raise UserError("A dataset is in the mix twice.", where, "Choose each of them once.")
    for one, (_, weight) in zip(datasets, parts, strict=True):
        if not (math.isfinite(weight) and weight > 0):
            fix = "Give each dataset a weight above 0, or leave it out."
            raise UserError(f"The weight {weight:g} is not a positive number.", one.name, fix)
        if not one.num_examples:
            what = "The dataset has no rows to train on."
            raise UserError(what, one.name, "Choose its columns first.")
    texts = [one for one in datasets if one.format == "text"]
    if texts and len(texts) < len(datasets):
        what = "Plain text and conversations cannot be mixed."
        raise UserError(what, texts[0].name, "Mix datasets of one kind only.")
    return datasets


def row_counts(weights: Sequence[float], sizes: Sequence[int], repeat: bool) -> list[int]:
    """How many rows each part gives, in proportion to the weights and at least one.

    Without `repeat`, at most as many as its size.
    """
    fits = [size / weight for size, weight in zip(sizes, weights, strict=True)]
    whole = max(fits) if repeat else min(fits)
    counts = [max(1, round(weight * whole)) for weight in weights]
    if repeat:
        return counts
    return [min(count, size) for count, size in zip(counts, sizes, strict=True)]


def _sentence(parts: list[MixPart]) -> str:
    total = sum(part["rows"] for part in parts)
    phrases = []
    for part in parts:
        times, fraction = part["rows"] / part["size"], part["rows"] / total
        often = f", each {times:.1f} times on average" if times > 1 else ""
        phrases.append(f"{part['rows']:,} rows of {part['name']} ({fraction:.0%}{often})")
    return "; ".join(phrases) + "."


def _mapping(kind: str, datasets: list[StoredDataset]) -> ColumnMapping:
    roles = {kind: kind}
    for role in ("tools", "images"):
        if any(one.mapping and role in one.mapping.roles for one in datasets):
            roles[role] = role
    return ColumnMapping(kind, roles)


def _mixed(
    datasets: list[StoredDataset], sizes: list[int], counts: list[int], seed: int
) -> Iterator[NumberedRow]:
    """The rows of the mix: the parts interleaved at random, each in its own order."""
    random = np.random.Generator(np.random.PCG64(seed))
    sources = [
        _part(one, size, count, random)
        for one, size, count in zip(datasets, sizes, counts, strict=True)
    ]
    turns = random.permutation(np.repeat(np.arange(len(counts)), counts))
    for number, part in enumerate(turns, start=1):
        yield number, next(sources[part])


def _part(
    dataset: StoredDataset, size: int, count: int, random: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """`count` rows of one part: all of them as often as they fit, then a random choice in order."""
    rounds, rest = divmod(count, size)
    # drawn now, not in rows(): parts are read in turn and share the generator
    chosen = np.sort(random.choice(size, rest, replace=False))

    def rows() -> Iterator[dict[str, Any]]:
        for _ in range(rounds):
            yield from (mixed_row(dataset, one) for one in dataset.examples(range(size)))
        yield from (mixed_row(dataset, one) for one in dataset.examples(chosen.tolist()))

    return rows()


def mixed_row(dataset: StoredDataset, example: Example) -> dict[str, Any]:
    """An example as a row of a mix, with where it comes from."""
    row: dict[str, Any] = {"messages": example.messages}
    if example.messages is None:
        row = {"text": example.text}
    if example.tools:
        row["tools"] = example.tools
    if example.images:
        row["images"] = [{"image": name} for name in example.images]
    return row | {FROM: label(dataset.name), FROM_ROW: example.row}
