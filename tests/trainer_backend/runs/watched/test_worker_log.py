"""worker.log stays small and shows no secret; a worker that prints much is not held up."""

import io
import subprocess
import sys

from trainer_backend.redact import HIDDEN
from trainer_backend.runs.watched.worker_log import RedactedStream, cap_log, log_tail


def test_case_34_a_flood_of_output_stalls_nobody_and_is_cut_at_the_cap(tmp_path):
    flood = "import sys\nfor n in range(100_000): sys.stdout.write(f'{n:06d} ' + 'x' * 92 + '\\n')"
    with open(tmp_path / "worker.log", "ab") as log:
        done = subprocess.run([sys.executable, "-c", flood], stdout=log, timeout=60)
    assert done.returncode == 0 and (tmp_path / "worker.log").stat().st_size == 10_000_000
    assert cap_log(tmp_path, limit=1_000_000)
    kept = (tmp_path / "worker.log").read_text().splitlines()
    assert (tmp_path / "worker.log").stat().st_size <= 500_200
    assert "10,000,000 bytes" in kept[0] and kept[-1].startswith("099999")
    assert all(len(line) == 99 for line in kept[1:])
    assert not cap_log(tmp_path, limit=1_000_000)


def test_a_worker_goes_on_writing_after_the_cut(tmp_path):
    with open(tmp_path / "worker.log", "ab", buffering=0) as log:
        log.write(b"old\n" * 1000)
        assert cap_log(tmp_path, limit=1000)
        log.write(b"new\n")
    text = (tmp_path / "worker.log").read_bytes()
    assert text.endswith(b"old\nnew\n") and b"\0" not in text


def test_no_log_is_no_error(tmp_path):
    assert not cap_log(tmp_path) and log_tail(tmp_path) == ""


def test_lines_are_redacted_even_when_they_come_in_pieces():
    below = io.StringIO()
    stream = RedactedStream(below)
    for part in ("token hf_AbCdEfGh", "IjKlMnOpQrSt\nnext", " line"):
        stream.write(part)
    assert below.getvalue() == f"token {HIDDEN}\n"
    stream.flush()
    assert below.getvalue() == f"token {HIDDEN}\nnext line"


def test_the_tail_hides_what_a_library_wrote_past_us(tmp_path):
    (tmp_path / "worker.log").write_text("ok\nkey hf_AbCdEfGhIjKlMnOpQrSt\n")
    assert log_tail(tmp_path).splitlines() == ["ok", f"key {HIDDEN}"]
