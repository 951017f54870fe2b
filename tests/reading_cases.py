"""Shared by the tests of reading: messages, a file from bytes, a refusal, little memory."""

import resource
import subprocess
import sys
import textwrap
from itertools import islice
from pathlib import Path

import pytest

from trainer_backend.data.formats import Detection, detect_format
from trainer_backend.data.readers.files import open_rows, read_rows
from trainer_backend.data.readers.options import ReadOptions
from trainer_backend.errors import UserError

ROOT = Path(__file__).parents[1]
USER = {"role": "user", "content": "Hi"}
BOT = {"role": "assistant", "content": "Hello"}


def put(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return path


def rows(path: Path, **options) -> list[dict]:
    """All rows of a file."""
    return [row for _, row in read_rows(path, options=ReadOptions(**options))]


def detected(path: Path) -> Detection:
    """The format of a file, by its first rows."""
    return detect_format([row for _, row in islice(read_rows(path), 25)])


def refusal(path: Path, **options) -> UserError:
    """The error of reading a file; it names the file, and no folder."""
    with pytest.raises(UserError) as caught:
        rows(path, **options)
    error = caught.value
    assert error.what and error.fix and path.name in error.where
    assert str(path.parent) not in f"{error.what} {error.where} {error.fix}"
    return error


def skipped(path: Path) -> tuple[list[dict], list[tuple[int, str]]]:
    """The rows without the damaged ones, and the list of those."""
    reader = open_rows(path, options=ReadOptions(skip_damaged=True))
    kept = [row for _, row in reader]
    assert any(f"{len(reader.damage.rows):,} damaged row" in note for note in reader.notes)
    return kept, reader.damage.rows


READ = """
import resource, sys
from pathlib import Path
from trainer_backend.data.readers.files import read_rows
from trainer_backend.errors import UserError
try:
    print(sum(1 for _ in read_rows(Path(sys.argv[1]))))
except UserError as error:
    print("refused:", error.what, "|", error.where)
used = resource.getrusage(resource.RUSAGE_SELF)
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print("MB", int(peak) // 1024, "seconds", round(used.ru_utime + used.ru_stime, 1))
"""


def read_limited(path: Path, megabytes: int) -> str:
    """Read a file in a process whose address space may not be larger than this."""
    limit = megabytes * 2**20

    def cap():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ), str(path)],
        capture_output=True, text=True, timeout=60, preexec_fn=cap, cwd=ROOT, check=False,
        env={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.stdout + done.stderr[-800:]
