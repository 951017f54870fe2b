"""worker.log: the worker's output, without secrets and limited in size."""

import io
import os
import sys
from pathlib import Path
from typing import TextIO

from trainer_backend.redact import redact
from trainer_backend.runs.files import LOG

MAX_BYTES = 8 * 2**20
TAIL_BYTES = 64_000


def cap_log(folder: Path, limit: int = MAX_BYTES) -> bool:
    """Cut a log of more than `limit` bytes to its newest half; returns whether it was cut.

    The worker appends to the file directly: no pipe can fill up, and a crash loses no line. So the
    file is cut in place; output written meanwhile may be lost.
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
        return False  # missing, or the disk is full: the next call tries again
    return True


def log_tail(folder: Path, lines: int = 200) -> str:
    """The last lines the worker printed, without secrets; "" if there is no log."""
    try:
        with open(folder / LOG, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    shown = [line.rpartition("\r")[2] for line in text.splitlines()[-lines:]]
    return redact("\n".join(shown))


class RedactedStream(io.TextIOBase):
    """A text stream that writes whole lines, without secrets, to another stream."""

    def __init__(self, stream: TextIO):
        self._stream, self._rest = stream, ""

    def write(self, text: str) -> int:
        """Write complete lines and keep the rest: a secret may arrive in pieces."""
        self._rest += text
        if "\n" in text or "\r" in text:
            at = max(self._rest.rfind("\n"), self._rest.rfind("\r")) + 1
            whole, self._rest = self._rest[:at], self._rest[at:]
            self._stream.write(redact(whole))
        return len(text)

    def flush(self) -> None:
        """Write the rest as well."""
        if self._rest:
            self._stream.write(redact(self._rest))
            self._rest = ""
        self._stream.flush()

    def fileno(self) -> int:
        """The underlying file, for libraries that write to it themselves."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override] # read only, as of io.TextIOWrapper
        return self._stream.encoding


def redact_output() -> None:
    """Redact secrets in all that this process prints, logs or raises from now on."""
    sys.stdout, sys.stderr = RedactedStream(sys.stdout), RedactedStream(sys.stderr)
