"""The options of the command sweep; apart from it, so that other commands load quickly."""

import argparse
from collections.abc import Callable, Sequence


def add_sweep(
    command: Callable[[str, str], argparse.ArgumentParser],
    shared: Sequence[Callable[[argparse.ArgumentParser], None]],
) -> None:
    """Add the parser of sweep; `command(name, help)` makes it, and `shared` add the options that
    it has in common with other commands."""
    sweep = command("sweep", "queue runs that try several values, or list what they achieved")
    which = "a preset name or a YAML file; “list” or a sweep's id shows what there is"
    sweep.add_argument("recipe", metavar="RECIPE", help=which)
    sweep.add_argument("--data", metavar="DATA", help="a file, a folder, a sample, a dataset")
    sweep.add_argument(
        "--try",
        action="append",
        default=[],
        dest="tries",
        metavar="KEY=VALUE,VALUE",
        help="values of a setting: learning_rate=1e-4,2e-4; may be repeated, then every "
        "combination is a run (24 at most). Values with commas stand between |",
    )
    sweep.add_argument(
        "--halving",
        action="store_true",
        help="stop the runs early whose evaluation loss is clearly behind",
    )
    sweep.add_argument("--name", help="of the sweep")
    sweep.add_argument("--json", action="store_true")
    for add in shared:
        add(sweep)
