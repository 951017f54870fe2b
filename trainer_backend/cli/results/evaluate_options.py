"""The options of the command evaluate; cheap to import, as every command builds the parser."""

import argparse
from pathlib import Path


def add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    """The options of evaluate that no other command has; those of reading are added by others."""
    evaluate.add_argument("run", metavar="RUN", help="a run id or a run folder")
    evaluate.add_argument(
        "--data", metavar="DATA", help="other rows: a file, a folder, a sample, a dataset"
    )
    evaluate.add_argument("--rows", metavar="N", help="at most so many rows")
    evaluate.add_argument(
        "--checkpoint", metavar="STEP|best|last|all", help="left out: the result of the run"
    )
    evaluate.add_argument("--metrics", metavar="NAME,…", help="left out: what fits the answers")
    evaluate.add_argument(
        "--harness", metavar="TASK,…", help="also ask these tasks of lm-eval: names or YAML files"
    )
    evaluate.add_argument(
        "--harness-chat", action="store_true", help="ask them through the chat template"
    )
    evaluate.add_argument("--csv", type=Path, metavar="FILE", help="one row a question, all scores")
    evaluate.add_argument("--json", action="store_true")
