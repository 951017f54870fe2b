"""Many rows and many people: what this machine's measured slopes come to further out.

A slope is carried on only where it was straight; where something ends before, that is named.
"""

import math
from dataclasses import dataclass

# measured here with 1,000,000 made rows of 110 characters, 150 tokens of the tiny tokenizer
STORE_CPU_S, COUNT_CPU_S, TOKENS_CPU_S = 3.6e-5, 6.6e-5, 7.1e-5  # a row
STORE_BYTES = 250  # of memory a row while it is stored: digests, sketches, lengths
ROW_TOKENS, ROW_BYTES = 150, 250
TOKEN_BYTES = 8  # id and label, int32 each
INDEX_BYTES, LIST_BYTES = 8, 40  # of a row's number in an array, and in a Python list
# measured by the viewers' benchmark on 2 cores
REFRESH_S, PAGE_S, PAGE_BYTES = 1.1e-3, 22e-3, 0.38e6
SCHEDULER_S = 3.5e-6  # a run folder and round, two rounds a second
APP_BYTES = 200e6


@dataclass(frozen=True)
class Rows:
    """A dataset of so many rows."""

    count: float
    cores: int = 16

    def seconds(self) -> dict[str, float]:
        """Linear, as measured: storing runs on one core, counting on all, tokenising on one."""
        return {
            "read, check, store": self.count * STORE_CPU_S,
            "count tokens": self.count * COUNT_CPU_S / self.cores,
            "turn rows into tokens": self.count * TOKENS_CPU_S,
        }

    def memory(self) -> dict[str, float]:
        """Bytes while storing, and of the row numbers of each training process.

        The process keeps both splits, the chosen and the shuffled order, and a list while choosing.
        """
        return {
            "reader": self.count * STORE_BYTES,
            "training process": self.count * (3 * INDEX_BYTES + LIST_BYTES),
        }

    def disk(self) -> float:
        """Bytes of the rows/ folder of a packed run: texts, tokens, and tokens packed."""
        return self.count * (ROW_BYTES + 2 * ROW_TOKENS * TOKEN_BYTES)


@dataclass(frozen=True)
class Crowd:
    """People on one server. `watching` is the share with a live run open at the busiest minute."""

    people: int
    watching: float = 0.2
    pages_an_hour: float = 6.0
    runs_a_day: float = 1.0
    run_hours: float = 0.5
    day_hours: float = 10.0
    devices: int = 8
    dataset_bytes: float = 200e6
    run_bytes: float = 2 * 63e6  # two checkpoints of an adapter of rank 16 on 135M weights
    kept_runs: int = 50

    def requests(self) -> float:
        """Requests a second: each watching page asks once a second."""
        return self.people * self.watching

    def cores(self) -> dict[str, float]:
        """Cores of the app's one process: refreshes, new pages, the scheduler's look at runs."""
        return {
            "refreshes": self.requests() * REFRESH_S,
            "new pages": self.people * self.pages_an_hour / 3600 * PAGE_S,
            "scheduler": 2 * self.people * self.kept_runs * SCHEDULER_S,
        }

    def memory(self) -> float:
        """Bytes of the app: itself and the pages it remembers (300 at most)."""
        return APP_BYTES + min(self.people, 300) * PAGE_BYTES

    def disk(self) -> float:
        """Bytes of the home folder: a dataset each, and the runs that people keep."""
        return self.people * (self.dataset_bytes + self.kept_runs * self.run_bytes)

    def load(self) -> float:
        """Offered work in devices: runs a day times their hours, over the hours of a day."""
        return self.people * self.runs_a_day * self.run_hours / self.day_hours

    def wait_hours(self) -> float:
        """Mean time in the queue by Erlang's formula (M/M/c); infinite where work exceeds it."""
        busy, devices = self.load(), self.devices
        if busy >= devices:
            return math.inf
        blocked = 1.0  # Erlang B, by its recursion
        for servers in range(1, devices + 1):
            blocked = busy * blocked / (servers + busy * blocked)
        waits = blocked / (1 - busy / devices * (1 - blocked))
        return waits * self.run_hours / (devices - busy)
