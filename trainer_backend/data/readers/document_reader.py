"""Text and Markdown documents as pieces for continued pretraining, cut at paragraph ends.

The text of a piece is exact; only blank lines at a cut are dropped.
"""

import re
from collections.abc import Iterator

from trainer_backend.data.readers.text_reader import TextFile

PIECE = 4_000  # characters, about 1,000 tokens: fits the usual sequence length
_FENCE = re.compile(r" {0,3}(```|~~~)")  # of code, CommonMark 4.5
_BREAKS = ("\n", ". ", " ")  # where a long paragraph is cut, the best first


def read_document(file: TextFile) -> Iterator[tuple[int, dict]]:
    """(first line, {"text", "file"}) for every piece of up to PIECE characters."""
    for line, text in _pieces(file):
        if "\0" in text:
            fault = file.error("The text holds a NUL character.", "Remove the character.", line)
            file.damage.report(line, fault)
        elif file.undecoded(text):
            file.damage.report(line, file.not_decoded(line))
        else:
            yield line, {"text": text, "file": file.source.file_name}


def _pieces(file: TextFile) -> Iterator[tuple[int, str]]:
    held, begins = "", 1
    for line, paragraph in _paragraphs(file):
        heading = paragraph.startswith("#") and len(held) > PIECE // 2
        if held and (heading or len(held) + len(paragraph) > PIECE):
            yield begins, _trimmed(held)
            held = ""
        begins = begins if held else line
        held += paragraph
        while len(held) > PIECE:
            at = _cut(held)
            yield begins, _trimmed(held[:at])
            begins += held.count("\n", 0, at)
            held = held[at:]
    if held.strip():
        yield begins, _trimmed(held)


def _trimmed(text: str) -> str:
    return text.strip("\r\n\ufeff")


def _paragraphs(file: TextFile) -> Iterator[tuple[int, str]]:
    """(first line, paragraph and the blank lines after it); fenced code stays together."""
    parts: list[str] = []
    begins, blank, fence, size = 1, False, "", 0
    for line in file.lines():
        if blank and line.strip() and not fence:
            yield begins, "".join(parts)
            parts, size = [], 0
        blank = not line.strip()
        if not parts:
            begins = file.line
            if blank:
                continue
        parts.append(line)
        size += len(line)
        if mark := _FENCE.match(line):
            fence = mark[1] if not fence else fence.replace(mark[1], "")
        if size > PIECE:  # the caller cuts it
            yield begins, "".join(parts)
            parts, size, fence, blank = [], 0, "", False
    if parts:
        yield begins, "".join(parts)


def _cut(text: str) -> int:
    """Where to cut a text that is longer than a piece."""
    for mark in _BREAKS:
        at = text.rfind(mark, PIECE // 2, PIECE)
        if at >= 0:
            return at + len(mark)
    return PIECE
