"""worker.log: what a worker prints, without secrets, cut when it grows too large.

What is recorded as facts is run_writer.py.
"""

import io
import os
import sys
from pathlib import Path

from trainer_backend.redact import redact
from trainer_backend.runs.files import LOG

MAX_BYTES = 8 * 2**20
TAIL_BYTES = 64_000


def cap_log(folder: Path, limit: int = MAX_BYTES) -> bool:
    """Cut the log to its newest half when it is over the limit (the older part is dropped).

    The worker's output goes straight into the file, opened for appending: no pipe that could fill
    up, and a crash loses no line. So it is cut in place; what is written meanwhile may be lost.
    """
    path = folder / LOG
    try:
        with open(path, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= limit:
                return False
            file.seek(size - limit // 2)
            kept = file.read(limit // 2)
            kept = kept[kept.find(b"\n") + 1 :]
            note = f"(the log grew to {size:,} bytes; its older part was cut off)\n"
            file.seek(0)
            file.write(note.encode() + kept)
            file.truncate()
    except OSError:
        return False  # not there yet, or the disk is full: the next look tries again
    return True


def log_tail(folder: Path, lines: int = 200) -> str:
    """The last lines the worker printed."""
    try:
        with open(folder / LOG, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""  # not there yet, or nothing that can be read
    shown = [line.rpartition("\r")[2] for line in text.splitlines()[-lines:]]
    return redact("\n".join(shown))


class RedactedStream(io.TextIOBase):
    """A text stream that writes whole lines without secrets into another."""

    def __init__(self, stream):
        self._stream, self._rest = stream, ""

    def write(self, text: str) -> int:
        """Keep a line until it is whole: a secret may come in pieces."""
        self._rest += text
        if "\n" in text or "\r" in text:
            at = max(self._rest.rfind("\n"), self._rest.rfind("\r")) + 1
            whole, self._rest = self._rest[:at], self._rest[at:]
            self._stream.write(redact(whole))
        return len(text)

    def flush(self) -> None:
        """Write what is there, whole line or not."""
        if self._rest:
            self._stream.write(redact(self._rest))
            self._rest = ""
        self._stream.flush()

    def fileno(self) -> int:
        """The file below, for libraries that write to it themselves."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        return self._stream.encoding


def redact_output() -> None:
    """Let no Python print, log line or traceback of this process show a secret."""
    sys.stdout, sys.stderr = RedactedStream(sys.stdout), RedactedStream(sys.stderr)
