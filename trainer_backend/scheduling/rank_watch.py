"""Several processes train one run: each shows that it lives, and notices when another is gone.

Torch-free. What they decide together is agree.py; one process alone needs none of this.
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

from trainer_backend.home import read_json, write_json
from trainer_backend.processes import kill_now, rank_and_size, start_time
from trainer_backend.runs.files import RANKS

BEAT_S = 1.0
GRACE_S = 5.0  # what a process that lost another one gets to end by itself
SILENT_S = 60.0  # of a machine that cannot be asked whether a process lives
START_S = 300.0
WORKING, FAILED, DONE, LOST = "working", "failed", "done", "lost"
EXIT_CODE = 75


def clear_ranks(run_dir: Path) -> None:
    """Forget the processes of an earlier start."""
    shutil.rmtree(run_dir / RANKS, ignore_errors=True)


def kill_ranks(run_dir: Path) -> None:
    """End the processes of this machine at once; the launcher gave each a session of its own."""
    for path in _files(run_dir):
        facts = _read(path)
        if facts and facts["host"] == socket.gethostname():
            if facts["started"] and start_time(facts["pid"]) == facts["started"]:
                kill_now(facts["pid"])


def reason_of(run_dir: Path) -> dict | None:
    """The error of the process that ended the others, or None if none is known."""
    found = [facts for path in _files(run_dir) if (facts := _read(path))]
    failed = [facts for facts in found if facts["state"] in (FAILED, LOST) and facts["error"]]
    first = min(failed, key=lambda facts: (facts["state"] == LOST, facts["t"]), default=None)
    return first and first["error"]


def _files(run_dir: Path) -> list[Path]:
    return sorted((run_dir / RANKS).glob("rank-*.json"))


def _read(path: Path) -> dict | None:
    try:
        facts = read_json(path)
    except (json.JSONDecodeError, OSError):
        return None
    return facts if isinstance(facts, dict) else None


@dataclass
class _Peer:
    """What is known of another process: its file, and when this process saw it change."""

    number: int
    path: Path
    old: float | None  # when its file was written, if an earlier start left it there
    changed: float | None = None
    seen: float = field(default_factory=time.monotonic)


class RankWatch:
    """Shows this process to the others and looks after them; as a context manager around the work.

    `on_lost(error)` is called when another process is gone and this one, after a moment of grace,
    has not ended by itself; it must end the process.
    """

    def __init__(self, run_dir: Path, on_lost: Callable[[dict], None]):
        self.rank, self.size = rank_and_size()
        self._folder, self._on_lost = run_dir / RANKS, on_lost
        self._path = self._file(self.rank)
        self._end, self._lock = threading.Event(), threading.Lock()
        self._cause: dict | None = None
        self._peers: list[_Peer] = []
        self._thread = threading.Thread(target=self._watch, name="rank-watch", daemon=True)

    def __enter__(self) -> "RankWatch":
        if self.size > 1:
            others = [n for n in range(self.size) if n != self.rank]
            self._peers = [_Peer(n, self._file(n), _written(self._file(n))) for n in others]
            self._say(WORKING)
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()

    def say(self, error: dict | None = None) -> None:
        """Tell the others that this process is at its end: well, or with an error."""
        if self.size > 1:
            if error:
                error = {**error, "where": f"{error['where']}, {self._name(self.rank)}"}
            self._say(FAILED if error else DONE, error)

    def follow(self, error: dict) -> None:
        """Tell the others that this process ends because of another one's error."""
        self._say(LOST, error)

    def cause(self) -> dict | None:
        """The error of another process, if that is why this one cannot go on.

        Waits a moment for it: a broken connection is noticed sooner than its reason.
        """
        beats = 8 if any(self._is_elsewhere(peer) for peer in self._peers) else 3
        end = time.monotonic() + (beats * BEAT_S if self.size > 1 else 0.0)
        while self._cause is None and time.monotonic() < end:
            time.sleep(BEAT_S / 10)
        return self._cause or self._fell_silent(beats * BEAT_S / 2)

    def _fell_silent(self, seconds: float) -> dict | None:
        """Blame the machine that is silent longest: only asked when a connection is broken."""
        silent = [p for p in self._peers if self._is_elsewhere(p) and p.changed is not None]
        worst = min(silent, key=lambda peer: peer.seen, default=None)
        if worst is None or time.monotonic() - worst.seen < seconds:
            return None
        return self._gone(worst, "is gone", _read(worst.path)["host"])

    def _is_elsewhere(self, peer: _Peer) -> bool:
        facts = _read(peer.path)
        return bool(facts) and facts["host"] != socket.gethostname()

    def first_is_done(self) -> bool:
        """Whether the first process ended well: what then fails in another one is no failure."""
        facts = self.rank > 0 and _read(self._file(0))
        return bool(facts) and facts["state"] == DONE

    def _name(self, number: int) -> str:
        return f"process {number + 1} of {self.size}"

    def _file(self, number: int) -> Path:
        return self._folder / f"rank-{number}.json"

    def _say(self, state: str, error: dict | None = None) -> None:
        facts = {"rank": self.rank, "pid": os.getpid(), "started": start_time(os.getpid())}
        facts |= {"host": socket.gethostname(), "state": state, "error": error, "t": time.time()}
        with self._lock:
            self._folder.mkdir(exist_ok=True)
            write_json(self._path, facts)

    def _watch(self) -> None:
        parent = os.getppid()
        while not self._end.wait(BEAT_S):
            if os.getppid() != parent:
                os._exit(EXIT_CODE)  # the launcher was killed, and with it the run
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

    def _look(self, peer: _Peer) -> dict | None:
        """The error that ended a peer, or None while it works or after it ended well."""
        written, now = _written(peer.path), time.monotonic()
        if written is None or written == peer.old:
            return self._gone(peer, "never began") if now - peer.seen > START_S else None
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
        return self._gone(peer, "is gone", facts["host"]) if ended else None

    def _gone(self, peer: _Peer, how: str, host: str = "") -> dict:
        facts = _read(peer.path) or {}
        if facts.get("state") in (FAILED, DONE) and _written(peer.path) != peer.old:
            return facts["error"] or {}  # it ended while it was looked at
        place = f" on {host}" if host else ""
        return {
            "what": f"Training {self._name(peer.number)} {how}: it was ended from outside, or the "
            "memory of its machine ran out.",
            "where": f"{self._name(peer.number)}{place}",
            "fix": "Resume goes on from the last checkpoint; with less memory in use, choose a "
            "smaller batch or fewer processes.",
            "code": "rank_failed",
            "offer": None,
        }


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
