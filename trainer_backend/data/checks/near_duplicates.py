"""Finds rows that nearly repeat an earlier one: MinHash sketches of word triples, LSH banding.

MinHash: Broder 1997, "On the resemblance and containment of documents". Here with one permutation
(Li, Owen, Zhang 2012), empty bins filled by rotation (Shrivastava, Li 2014) and one byte per bin
(Li, König 2010). Banding: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3.
Only words are compared; what a repeated row means for training is not known here.
"""

from collections.abc import Iterator

import numpy as np

from trainer_backend.data.checks.words import WordArrays

BINS, BAND = 64, 4  # bytes in a sketch; bytes in a band: rows that agree in one are compared
ALIKE = 0.8  # least Jaccard similarity of the word triples of near duplicates
MIN_TRIPLES = 6  # texts with fewer are not compared
COMMON_SHARE, COMMON_ROWS = 0.1, 20  # rows (fraction, number) from which a triple is a template's
NEAR = "near.npy"  # int64 (2, n), in the dataset's folder: as near_repeats() returns it
_EMPTY = np.uint32(2**32 - 1)
_COMPARED = 1 << 18  # pairs compared at once, to bound memory
_MIX = [np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)]


class Sketcher:
    """Turns texts into sketches, ignoring triples of a template found in the first batch."""

    def __init__(self) -> None:
        self._common: np.ndarray | None = None

    def sketch(self, words: WordArrays, row_of_text: np.ndarray, num_rows: int) -> np.ndarray:
        """uint8 (num_rows, BINS), all zero for short rows. The texts of a row must be adjacent."""
        triples, rows = _triples(words, row_of_text)
        if self._common is None:
            self._common = _common(triples, rows, num_rows)
        if len(self._common):
            at = np.minimum(np.searchsorted(self._common, triples), len(self._common) - 1)
            own = self._common[at] != triples
            triples, rows = triples[own], rows[own]
        bins = np.full(num_rows * BINS, _EMPTY, np.uint32)
        place = rows * BINS + (triples >> np.uint64(58)).astype(np.int64)
        np.minimum.at(bins, place, triples.astype(np.uint32))
        bins = _filled(bins.reshape(num_rows, BINS))
        sketches = (splitmix64(bins.astype(np.uint64)) >> np.uint64(56)).astype(np.uint8)
        sketches[np.bincount(rows, minlength=num_rows) < MIN_TRIPLES] = 0
        return sketches


def _triples(words: WordArrays, row_of_text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, rows): a hash of each three consecutive words in a row, and the row."""
    word: np.ndarray = words.head * _MIX[0] + (words.tail + words.size.astype(np.uint64)) * _MIX[1]
    word ^= word >> np.uint64(29)
    rows = row_of_text[words.text]
    triples = word[:-2] * _MIX[0] + word[1:-1] * _MIX[1] + word[2:] * _MIX[2]
    inside = rows[:-2] == rows[2:]
    return splitmix64(triples[inside]), rows[:-2][inside]


def splitmix64(values: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 (Steele, Lea, Flood 2014) over uint64 values."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _common(triples: np.ndarray, rows: np.ndarray, num_rows: int) -> np.ndarray:
    """The sorted triples that occur in so many rows that they belong to a template."""
    least = max(COMMON_ROWS, COMMON_SHARE * num_rows)
    values, counts = np.unique(triples, return_counts=True)
    often = values[counts > least]
    if not len(often):
        return often
    at = np.minimum(np.searchsorted(often, triples), len(often) - 1)
    held = often[at] == triples
    pairs = np.unique(np.stack([at[held], rows[held]]), axis=1)
    return often[np.bincount(pairs[0], minlength=len(often)) > least]


def _filled(bins: np.ndarray) -> np.ndarray:
    """Fill each empty bin from the next filled one to its right, offset by the distance."""
    empty = bins == _EMPTY
    index = np.where(empty, 2 * BINS, np.arange(BINS))
    nearest = np.minimum.accumulate(np.concatenate([index, index + BINS], axis=1)[:, ::-1], axis=1)[
        :, ::-1
    ][:, :BINS]
    distance = np.minimum(nearest - np.arange(BINS), BINS)
    values = np.take_along_axis(bins, nearest % BINS, axis=1)
    return values + distance.astype(np.uint32) * np.uint32(0x9E3779B1)


def near_repeats(sketches: np.ndarray, left_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 (later, earlier): rows that nearly repeat an earlier row, each with the first such row.

    `sketches` is uint8 (rows, BINS); `left_out` is a mask of known exact repeats. `later` ascends.
    """
    first_like = np.arange(len(sketches))
    rows = np.flatnonzero(~left_out & sketches.any(axis=1))
    for later, earlier in _candidates(sketches, rows):
        alike = _alike(sketches, later, earlier)
        np.minimum.at(first_like, later[alike], earlier[alike])
    later = np.flatnonzero(first_like < np.arange(len(sketches)))
    return later, first_like[later]


def _candidates(sketches: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs that agree in a band: each row with the first such row and with the one before it."""
    for band in range(BINS // BAND):
        keys = np.ascontiguousarray(sketches[rows, band * BAND : (band + 1) * BAND])
        keys = keys.view(np.uint32).ravel()
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
        if not len(again):
            continue
        begins = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
        firsts = begins[np.searchsorted(begins, again, side="right") - 1]
        later = rows[order[again]]
        yield later, rows[order[firsts]]
        yield later, rows[order[again - 1]]


def _alike(sketches: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether the estimated similarity of each pair is at least ALIKE."""
    least = round(BINS * ALIKE)
    found = np.empty(len(one), bool)
    for at in range(0, len(one), _COMPARED):
        part = slice(at, at + _COMPARED)
        found[part] = (sketches[one[part]] == sketches[other[part]]).sum(axis=1) >= least
    return found
