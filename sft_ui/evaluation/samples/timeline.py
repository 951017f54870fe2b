"""The answers to a few held-out prompts while a run trains, by step, with what changed in each.

Reads the file that the run writes, for the live view; the browser draws.
"""

import json
from typing import Any

from sft_ui.evaluation.rows.differences import Piece, differences, excerpt
from sft_ui.evaluation.rows.table import cut
from trainer_backend.runs import Run
from trainer_backend.runs.files import SAMPLES

TEXT_CHARS = 1_500
MOST_KEPT = 900  # of a long run the first answers and the newest ones


class Timeline:
    """The samples of one run, read once for all viewers."""

    def __init__(self, run: Run):
        self._path = run.dir / SAMPLES
        self._offset, self._dropped, self._file = 0, 0, 0
        self._kept: list[dict[str, Any]] = []
        self._said: dict[int, str] = {}  # the last answer to each row

    def since(self, at: object) -> dict[str, Any]:
        """What came after the first `at` samples: {"samples": {"at", "fresh", "new"}}, or {}.

        A viewer that has more than there are, or fewer than are still kept, gets all.
        """
        self._read()
        total = self._dropped + len(self._kept)
        if at == total or not total:
            return {}
        known = isinstance(at, int) and self._dropped < at < total
        new = self._kept[at - self._dropped :] if known and isinstance(at, int) else self._kept
        return {"samples": {"at": total, "fresh": not known, "new": new}}

    def _read(self) -> None:
        if not self._path.is_file():
            return
        facts = self._path.stat()
        if self._file not in (0, facts.st_ino) or facts.st_size < self._offset:
            self._begin_again()
        self._file = facts.st_ino
        if facts.st_size == self._offset:
            return
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                if (sample := _sample(line)) is not None:
                    self._kept.append(self._told(sample))
        if len(self._kept) > MOST_KEPT:
            self._drop()

    def _begin_again(self) -> None:
        """A resumed run writes the file anew, without what it repeats: all viewers get all."""
        self._dropped += len(self._kept) + 1
        self._offset, self._kept, self._said = 0, [], {}

    def _drop(self) -> None:
        first = self._kept[0]["step"]
        beginning = [one for one in self._kept if one["step"] == first]
        newest = self._kept[-(MOST_KEPT // 2) :]
        self._dropped += len(self._kept) - len(beginning) - len(newest)
        self._kept = beginning + newest

    def _told(self, sample: dict[str, Any]) -> dict[str, Any]:
        """The sample as the page shows it, compared with the answer before it."""
        row, text = sample["row"], cut(sample["text"], TEXT_CHARS)
        before = self._said.get(row)
        self._said[row] = text
        pieces: tuple[Piece, ...] = (("same", text),)
        if before is not None:
            pieces = differences(before, text)
        return {
            **{name: sample[name] for name in ("row", "step", "cut")},
            "prompt": cut(sample["prompt"], TEXT_CHARS),
            "expected": cut(sample["expected"], TEXT_CHARS),
            "pieces": excerpt(pieces, TEXT_CHARS),
            "changed": None if before is None else before.strip() != text.strip(),
            "right": text.strip() == sample["expected"].strip(),
        }


def _sample(line: bytes) -> dict[str, Any] | None:
    """The sample of a line; None for a damaged one."""
    try:
        found = json.loads(line)
        texts = {name: str(found.get(name) or "") for name in ("prompt", "expected", "text")}
        numbers = {name: int(found[name]) for name in ("step", "row")}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return {**texts, **numbers, "cut": bool(found.get("cut"))}
