"""Rows to one batch of tensors: joined into a single row without padding, or padded on the right.

Nothing is tokenised or packed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer_backend.tokens.tokenise import IGNORED


@dataclass
class SFTCollator:
    """Collate rows of `input_ids`, `labels` (default: the ids) and, if packed, `seq_lengths`.

    Two rows, [1, 2, 3] and [4, 5], with their ids as labels; all tensors are int64:

        padding_free=True                          padding_free=False
        input_ids     [[1, 2, 3, 4, 5]]            input_ids       [[1, 2, 3], [4, 5, 0]]
        labels        [[-100, 2, 3, -100, 5]]      labels          [[1, 2, 3], [4, 5, -100]]
        position_ids  [[0, 1, 2, 0, 1]]            attention_mask  [[1, 1, 1], [1, 1, 0]]
        seq_lengths   [3, 2]

    Joined rows are one row of documents: `seq_lengths` (a list) tells attention where each begins,
    and a document's first label is masked, since no token of it predicts that one.
    """

    pad_token_id: int
    padding_free: bool = False
    pad_to_multiple_of: int | None = None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return a batch of shape [1, tokens] when joined, else [rows, longest row]."""
        if self.padding_free:
            return self._join(rows)
        return self._pad(rows)

    def _join(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        lengths = [n for row in rows for n in (row.get("seq_lengths") or [len(row["input_ids"])])]
        ids = np.concatenate([np.asarray(row["input_ids"]) for row in rows])
        labels = np.concatenate([np.asarray(_labels(row)) for row in rows]).astype(np.int64)
        ends = np.cumsum(lengths)
        starts = ends - lengths
        labels[starts[starts < len(labels)]] = IGNORED
        positions = np.arange(len(ids)) - np.repeat(starts, lengths)
        return {
            "input_ids": torch.from_numpy(ids.astype(np.int64))[None],
            "labels": torch.from_numpy(labels)[None],
            "position_ids": torch.from_numpy(positions)[None],
            "seq_lengths": [int(n) for n in lengths],
        }

    def _pad(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in rows)
        if self.pad_to_multiple_of:
            width += -width % self.pad_to_multiple_of
        ids = torch.full((len(rows), width), self.pad_token_id, dtype=torch.long)
        labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[i, :length] = torch.as_tensor(row["input_ids"])
            labels[i, :length] = torch.as_tensor(_labels(row))
            mask[i, :length] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _labels(row: Mapping[str, Any]) -> Sequence[int]:
    return row["labels"] if row.get("labels") is not None else row["input_ids"]
