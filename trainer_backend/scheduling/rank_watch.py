"""Liveness of a run's training processes: each one notices when another has ended.

Files in the run folder, without torch. With a single process nothing is written.
"""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer_backend.home import read_json, write_json
from trainer_backend.processes import kill_now, rank_and_size, start_time
from trainer_backend.runs.files import RANKS

BEAT_S = 1.0
GRACE_S = 5.0  # seconds a process has to end by itself after another one is lost
SILENT_S = 60.0  # without a beat, after which a process of another machine counts as lost
START_S = 300.0  # seconds a process has to start
WORKING, FAILED, DONE, LOST = "working", "failed", "done", "lost"
EXIT_CODE = 75


def clear_ranks(run_dir: Path) -> None:
    """Delete the files of an earlier start."""
    shutil.rmtree(run_dir / RANKS, ignore_errors=True)


def kill_ranks(run_dir: Path) -> None:
    """Kill the training processes of this machine; each has a process group of its own."""
    for path in _files(run_dir):
        facts = _read(path)
        if facts and facts["host"] == socket.gethostname():
            if facts["started"] and start_time(facts["pid"]) == facts["started"]:
                kill_now(facts["pid"])


def reason_of(run_dir: Path) -> dict[str, Any] | None:
    """The error of the process that failed first, or None."""
    found = [facts for path in _files(run_dir) if (facts := _read(path))]
    failed = [facts for facts in found if facts["state"] in (FAILED, LOST) and facts["error"]]
    first = min(failed, key=lambda facts: (facts["state"] == LOST, facts["t"]), default=None)
    return first and first["error"]


def _files(run_dir: Path) -> list[Path]:
    return sorted((run_dir / RANKS).glob("rank-*.json"))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        facts: Any = read_json(path)
    except (json.JSONDecodeError, OSError):
        return None
    return facts if isinstance(facts, dict) else None


@dataclass
class _Peer:
    """Another training process: its file, and when this process last saw it change."""

    number: int
    path: Path
    old: int | None  # modification time (ns) of a file left by an earlier start
    changed: int | None = None
    seen: float = field(default_factory=time.monotonic)


class RankWatch:
    """A context manager: reports that this process lives and watches the others in a thread.

    `on_lost(error)` is called when another process is lost and this one has not ended within
    GRACE_S; it must end this process.
    """

    def __init__(self, run_dir: Path, on_lost: Callable[[dict[str, Any]], None]):
        self.rank, self.size = rank_and_size()
        self._folder, self._on_lost = run_dir / RANKS, on_lost
        self._path = self._file(self.rank)
        self._end, self._lock = threading.Event(), threading.Lock()
        self._cause: dict[str, Any] | None = None
        self._peers: list[_Peer] = []
        self._thread = threading.Thread(target=self._watch, name="rank-watch", daemon=True)

    def __enter__(self) -> "RankWatch":
        if self.size > 1:
            others = [n for n in range(self.size) if n != self.rank]
            self._peers = [_Peer(n, self._file(n), _written(self._file(n))) for n in others]
            self._report(WORKING)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()

    def report_end(self, error: dict[str, Any] | None = None) -> None:
        """Report that this process is done, or the error that ends it."""
        if self.size > 1:
            if error:
                error = {**error, "where": f"{error['where']}, {self._name(self.rank)}"}
            self._report(FAILED if error else DONE, error)

    def follow(self, error: dict[str, Any]) -> None:
        """Report that this process ends because of another one's error."""
        self._report(LOST, error)

    def cause(self) -> dict[str, Any] | None:
        """The error of another process that made this one fail, or None.

        Waits a few seconds: a broken connection is noticed before its cause.
        """
        beats = 8 if any(self._is_elsewhere(peer) for peer in self._peers) else 3
        end = time.monotonic() + (beats * BEAT_S if self.size > 1 else 0.0)
        while self._cause is None and time.monotonic() < end:
            time.sleep(BEAT_S / 10)
        return self._cause or self._fell_silent(beats * BEAT_S / 2)

    def _fell_silent(self, seconds: float) -> dict[str, Any] | None:
        """The error for the machine without a beat for longest, once a connection is broken."""
        silent = [p for p in self._peers if self._is_elsewhere(p) and p.changed is not None]
        worst = min(silent, key=lambda peer: peer.seen, default=None)
        if worst is None or time.monotonic() - worst.seen < seconds:
            return None
        return self._gone(worst, "has ended", (_read(worst.path) or {}).get("host", ""))

    def _is_elsewhere(self, peer: _Peer) -> bool:
        facts = _read(peer.path)
        return facts is not None and facts["host"] != socket.gethostname()

    def first_is_done(self) -> bool:
        """Whether the first process is done, so that a failure of another one does not count."""
        facts = _read(self._file(0)) if self.rank > 0 else None
        return facts is not None and facts["state"] == DONE

    def _name(self, number: int) -> str:
        return f"process {number + 1} of {self.size}"

    def _file(self, number: int) -> Path:
        return self._folder / f"rank-{number}.json"

    def _report(self, state: str, error: dict[str, Any] | None = None) -> None:
        facts = {
            "rank": self.rank,
            "pid": os.getpid(),
            "started": start_time(os.getpid()),
            "host": socket.gethostname(),
            "state": state,
            "error": error,
            "t": time.time(),
        }
        with self._lock:
            self._folder.mkdir(exist_ok=True)
            write_json(self._path, facts)

    def _watch(self) -> None:
        parent = os.getppid()
        while not self._end.wait(BEAT_S):
            if os.getppid() != parent:
                os._exit(EXIT_CODE)  # the launcher was killed: the run has ended
            with self._lock, suppress(OSError):  # a new start may have cleared the folder
                os.utime(self._path)
            self._cause = next((c for peer in self._peers if (c := self._look(peer))), None)
            if self._cause:
                break
        else:
            return
        if not self._end.wait(GRACE_S):
            self.follow(self._cause)
            self._on_lost(self._cause)

    def _look(self, peer: _Peer) -> dict[str, Any] | None:
        """The error that ended another process, or None if it works or is done."""
        written, now = _written(peer.path), time.monotonic()
        if written is None or written == peer.old:
            return self._gone(peer, "did not start") if now - peer.seen > START_S else None
        if written != peer.changed:
            peer.changed, peer.seen = written, now
        facts = _read(peer.path)
        if facts is None or facts["state"] == DONE:
            return None
        if facts["state"] in (FAILED, LOST):
            return facts["error"]
        if facts["host"] == socket.gethostname():
            ended = start_time(facts["pid"]) != facts["started"]
        else:
            ended = now - peer.seen > SILENT_S
        return self._gone(peer, "has ended", facts["host"]) if ended else None

    def _gone(self, peer: _Peer, how: str, host: str = "") -> dict[str, Any]:
        facts = _read(peer.path) or {}
        if facts.get("state") in (FAILED, DONE) and _written(peer.path) != peer.old:
            return facts["error"] or {}  # it ended in between
        place = f" on {host}" if host else ""
        return {
            "what": f"Training {self._name(peer.number)} {how}: it was killed from outside, or its "
            "machine ran out of memory.",
            "where": f"{self._name(peer.number)}{place}",
            "fix": "Resume continues from the last checkpoint. A smaller batch size or fewer "
            "processes use less memory.",
            "code": "rank_failed",
            "offer": None,
        }


def _written(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
