"""The answers to a few held-out prompts while a run trains, by step, with what changed in each.

Reads the file that the run writes; the browser draws.
"""

import json
from typing import Any

import gradio as gr

from sft_ui.evaluation.rows.differences import Piece, differences, excerpt
from sft_ui.evaluation.rows.table import cut
from sft_ui.theme import static_text
from trainer_backend.runs import Run
from trainer_backend.runs.files import SAMPLES

TEXT_CHARS = 1_500
MOST_KEPT = 900  # of a long run the first answers and the newest ones


class Timeline:
    """The samples of one run, read once for all viewers."""

    def __init__(self, run: Run):
        self._path = run.dir / SAMPLES
        self._offset, self._dropped = 0, 0
        self._kept: list[dict[str, Any]] = []
        self._said: dict[int, list[tuple[int, str]]] = {}  # row: the answers so far, by step

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
        if not self._path.is_file() or self._path.stat().st_size <= self._offset:
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

    def _drop(self) -> None:
        first = self._kept[0]["step"]
        beginning = [one for one in self._kept if one["step"] == first]
        newest = self._kept[-(MOST_KEPT // 2) :]
        self._dropped += len(self._kept) - len(beginning) - len(newest)
        self._kept = beginning + newest

    def _told(self, sample: dict[str, Any]) -> dict[str, Any]:
        """The sample as the page shows it; after a resume, what came before its step counts."""
        row, step, text = sample["row"], sample["step"], cut(sample["text"], TEXT_CHARS)
        before = [one for one in self._said.get(row, []) if one[0] < step]
        self._said[row] = [*before[-1:], (step, text)]
        pieces: tuple[Piece, ...] = (("same", text),)
        if before:
            pieces = differences(before[-1][1], text)
        return {
            **{name: sample[name] for name in ("row", "step", "cut")},
            "prompt": cut(sample["prompt"], TEXT_CHARS),
            "expected": cut(sample["expected"], TEXT_CHARS),
            "pieces": excerpt(pieces, TEXT_CHARS),
            "changed": None if not before else before[-1][1].strip() != text.strip(),
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


def build_timeline() -> gr.HTML:
    """The component; the live view hands it the samples of the run it shows."""
    return gr.HTML(
        "",
        html_template=static_text("evaluation/samples/timeline.html"),
        js_on_load=static_text("evaluation/rows/pieces.js", "evaluation/samples/timeline.js"),
        elem_id="samples",
        apply_default_css=False,
    )
