"""The environment of a process of ours that computes, wherever the app was started from.

Which processes there are is told by those who start them.
"""

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
