"""Several datasets mixed into one by weights: how many rows each gives, and in which order.

The same datasets, weights and seed give the same mix, row for row.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trainer_backend.data.formats import ColumnMapping, Example
from trainer_backend.data.readers import Progress
from trainer_backend.data.store.build import Making, counted, label, make
from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.data.store.fingerprint import dataset_id as id_of
from trainer_backend.errors import UserError

MAX_PARTS = 20
FROM, FROM_ROW = "from", "from_row"  # the columns that say where a row of a mix comes from


def mix_datasets(
    home: Path,
    parts: Sequence[tuple[str, float]],
    *,
    name: str,
    seed: int,
    repeat: bool = False,
    on_progress: Progress | None = None,
) -> StoredDataset:
    """One dataset of (dataset id, weight) parts; the weights are shares of the result.

    As many rows as there are until one part is used up, none twice. With `repeat` the largest part
    is used whole and smaller ones are repeated. Each row says where it came from; rows of an own
    held-out file are not mixed in. Raises UserError for parts that cannot be mixed.
    """
    datasets = _open_parts(home, parts)
    sizes = [one.held_out["first"] if one.held_out else one.num_examples for one in datasets]
    counts = shares([weight for _, weight in parts], sizes, repeat)
    said = [
        {"dataset_id": one.id, "name": one.name, "weight": weight, "size": size, "rows": count}
        for one, (_, weight), size, count in zip(datasets, parts, sizes, counts, strict=True)
    ]
    kind = "text" if datasets[0].format == "text" else "messages"
    change = {"mix": [[one["dataset_id"], one["rows"]] for one in said], "seed": seed}
    change["hashes"] = [one.hash for one in datasets]
    making = Making(
        name=name,
        content=id_of(change),
        num_bytes=sum(one.num_bytes for one in datasets),
        mapping=_mapping(kind, datasets),
        kinds=("mix",),
        image_folders=tuple(one.dir for one in datasets),
        said={"step": "mix", "parts": said, "done": _sentence(said), "source": {"mix": said}},
    )
    rows = counted(_mixed(datasets, sizes, counts, seed), sum(counts), on_progress)
    return make(home, rows, making)


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
            raise UserError(f"The weight {weight:g} is not a share.", one.name, fix)
        if not one.num_examples:
            raise UserError("The dataset has no row to train on.", one.name, "Choose its columns.")
    texts = [one for one in datasets if one.format == "text"]
    if texts and len(texts) < len(datasets):
        what = "Plain text and conversations cannot be mixed."
        raise UserError(what, texts[0].name, "Mix datasets of one of the two kinds.")
    return datasets


def shares(weights: Sequence[float], sizes: Sequence[int], repeat: bool) -> list[int]:
    """How many rows each part gives, so that the counts are to each other as the weights.

    No part gives more than it has, unless rows may repeat; each gives one row at least.
    """
    fits = [size / weight for size, weight in zip(sizes, weights, strict=True)]
    whole = max(fits) if repeat else min(fits)
    counts = [max(1, round(weight * whole)) for weight in weights]
    if repeat:
        return counts
    return [min(count, size) for count, size in zip(counts, sizes, strict=True)]


def _sentence(parts: list[dict]) -> str:
    total = sum(part["rows"] for part in parts)
    said = []
    for part in parts:
        times = part["rows"] / part["size"]
        often = f", each {times:.1f} times on average" if times > 1 else ""
        said.append(f"{part['rows']:,} rows of {part['name']} ({part['rows'] / total:.0%}{often})")
    return "; ".join(said) + "."


def _mapping(kind: str, datasets: list[StoredDataset]) -> ColumnMapping:
    roles = {kind: kind}
    for role in ("tools", "images"):
        if any(role in one.mapping.roles for one in datasets):
            roles[role] = role
    return ColumnMapping(kind, roles)


def _mixed(
    datasets: list[StoredDataset], sizes: list[int], counts: list[int], seed: int
) -> Iterator[tuple[int, dict]]:
    """The rows of the mix: each part in its own order, the parts shuffled into each other."""
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
) -> Iterator[dict]:
    """`count` rows of one part: whole rounds, then a random choice in file order."""
    rounds, rest = divmod(count, size)
    chosen = np.sort(random.choice(size, rest, replace=False))  # drawn now: parts take turns later

    def rows() -> Iterator[dict]:
        for _ in range(rounds):
            yield from (_as_row(dataset, one) for one in dataset.examples(range(size)))
        yield from (_as_row(dataset, one) for one in dataset.examples(chosen.tolist()))

    return rows()


def _as_row(dataset: StoredDataset, example: Example) -> dict:
    row = {"text": example.text} if example.messages is None else {"messages": example.messages}
    if example.tools:
        row["tools"] = example.tools
    if example.images:
        row["images"] = [{"image": name} for name in example.images]
    return row | {FROM: label(dataset.name), FROM_ROW: example.row}
