"""The options of the command corrections; nothing is loaded for them."""

import argparse
from collections.abc import Callable


def add_corrections(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command; `command(name, help)` makes its parser."""
    one = command("corrections", "list the corrected answers kept for the data of a run")
    one.add_argument("run", metavar="RUN", help="a run id or a run folder")
    one.add_argument(
        "--take-back", type=int, metavar="N", help="drop the correction with this number"
    )
    one.add_argument("--json", action="store_true")
