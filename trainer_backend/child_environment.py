"""The environment of our compute processes: what they are given, and their rank among several."""

import os
from pathlib import Path

PACKAGE_PARENT = Path(__file__).resolve().parent.parent


def child_environment(**more: str) -> dict[str, str]:
    """This process's environment, with the package to be found and idle threads asleep."""
    paths = [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]
    return {
        # idle compute threads sleep instead of spinning: with chat or a browser beside a training
        # on few cores, spinning halved the speed of all of them
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        **more,
    }


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are, as the launcher says: (0, 1) when alone."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def started_alone() -> bool:
    """Whether accelerate was asked for several processes and started one.

    With `--cpu` it leaves starting the others to MPI.
    """
    by_mpi = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "WORLD_SIZE"}
    asked = {"ACCELERATE_USE_CPU", "MASTER_PORT"} <= os.environ.keys()
    return asked and not by_mpi & os.environ.keys()
