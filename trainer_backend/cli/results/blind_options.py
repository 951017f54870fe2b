"""The options of the command blind, apart from it: they are read before anything is imported."""

import argparse
from pathlib import Path


def add_blind(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("run", metavar="RUN", help="a run id or a run folder")
    command.add_argument(
        "--against",
        metavar="RUN|base",
        default="base",
        help="another run; left out: the base model",
    )
    command.add_argument("--rows", type=int, metavar="N", help="held-out rows to ask (20)")
    command.add_argument("--prompts", type=Path, metavar="FILE", help="own prompts, one a line")
    command.add_argument("--new", action="store_true", help="start anew, even if one is unfinished")
    command.add_argument("--judge", metavar="URL", help="let an OpenAI-compatible server judge")
    command.add_argument("--judge-model", metavar="NAME", help="the model to ask there")
    command.add_argument(
        "--judge-key-env", metavar="NAME", default="", help="the variable that holds its key"
    )
    command.add_argument("--json", action="store_true")
