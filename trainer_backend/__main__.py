"""The command line: runs the same functions as the page's buttons.

Exit code 0 fine, 1 failed, 2 the user must fix something.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from trainer_backend import __version__
from trainer_backend.cli.offers import offer_lines
from trainer_backend.cli.prompts import add_prompts
from trainer_backend.cli.results.blind_options import add_blind
from trainer_backend.cli.results.compare import add_compare
from trainer_backend.cli.results.corrections_options import add_corrections
from trainer_backend.cli.results.evaluate_options import add_evaluate
from trainer_backend.cli.sweep_options import add_sweep
from trainer_backend.disk import for_people
from trainer_backend.errors import UserError
from trainer_backend.home import open_home

PROG = "python -m trainer_backend"


def build_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--version", action="version", version=f"SFT Studio {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", help="folder of datasets, runs, models (SFT_STUDIO_HOME)")
    runs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        return runs.add_parser(name, help=help, description=help, parents=[common])

    _add_data_commands(command)

    _add_training_commands(command)
    _add_launch_options(
        command("launch", "print how to train on several machines, or a Slurm script for it")
    )

    for name, help in (
        ("resume", "continue a run from its newest checkpoint"),
        ("retry", "start a failed run again with the settings its error suggests"),
        ("stop", "finish the current step, save and pause"),
        ("show", "print a run"),
    ):
        one = command(name, help)
        one.add_argument("run", metavar="RUN", help="a run id or a run folder")
        one.add_argument("--json", action="store_true")
        if name == "resume":
            _add_settings(one, "more epochs or steps, also for a finished run: max_steps=200")
        if name == "retry":
            _add_settings(one, "other settings than those suggested")

    command("runs", "list the runs, newest first").add_argument("--json", action="store_true")

    _add_result_commands(command)
    _add_chat_options(command("chat", "talk to a run or a base model"))

    export = command("export", "write a run's model into a folder")
    export.add_argument("run", metavar="RUN")
    export.add_argument(
        "--format", required=True, metavar="FORMAT", help="adapter, merged, gguf or script"
    )
    export.add_argument("--out", type=Path, metavar="DIR")
    return parser


def _add_training_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add train, estimate and sweep."""
    train = command("train", "train in the foreground and print the run folder")
    which = "a preset name or a YAML file; with --from the recipe of that run"
    train.add_argument("recipe", metavar="RECIPE", nargs="?", help=which)
    _add_new_run_options(train)
    train.add_argument(
        "--corrections", action="store_true", help="with --from: on the corrections kept for it"
    )
    train.add_argument("--json", action="store_true")

    estimate = command("estimate", "what a run would take here: memory, time, steps, disk")
    estimate.add_argument("recipe", metavar="RECIPE", help="a preset name or a YAML file")
    estimate.add_argument("--data", metavar="DATA", help="a file, a folder, a sample, a dataset")
    _add_reading(estimate)
    _add_columns(estimate)
    _add_settings(estimate, "a setting of the recipe: adapter=qlora")
    estimate.add_argument("--json", action="store_true")

    add_sweep(command, (_add_reading, _add_columns, _add_settings))


def _add_result_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the commands about what runs have learned: evaluate, compare, blind, corrections."""
    evaluate = command("evaluate", "ask base and tuned model held-out rows; kept with the run")
    add_evaluate(evaluate)
    _add_reading(evaluate)
    _add_columns(evaluate)
    add_compare(command)
    add_blind(command("blind", "vote on unnamed answers of two models, or let a judge vote"))
    add_corrections(command)


def _add_settings(command: argparse.ArgumentParser, help: str | None = None) -> None:
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help=help
    )


def _add_new_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", metavar="DATA", help="a file, a folder, a sample, a Hub dataset")
    _add_reading(command)
    _add_columns(command)
    _add_settings(command, "a setting of the recipe: learning_rate=1e-4")
    command.add_argument("--from", metavar="RUN", dest="start", help="start from a run's weights")
    command.add_argument("--name")


def _add_launch_options(launch: argparse.ArgumentParser) -> None:
    launch.add_argument("run", metavar="RUN|RECIPE", help="a run, a preset name or a YAML file")
    launch.add_argument("--nodes", type=int, default=1, metavar="N", help="machines")
    launch.add_argument(
        "--processes-per-node", type=int, metavar="M", help="one per GPU if left out"
    )
    launch.add_argument("--slurm", action="store_true", help="print a script for sbatch")
    launch.add_argument("--host", help="address of the first machine (this one)")
    launch.add_argument("--port", type=int, default=29500, help="a free port on it")
    _add_new_run_options(launch)


def _add_data_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add check, prepare and datasets; `command(name, help)` makes their parsers."""
    check = command("check", "read data: the format found, counts, problems with row numbers")
    prepare = command("prepare", "clean data and write it as messages, or packed as tokens")
    for one in (check, prepare):
        what = "files, a folder, a sample name, a stored dataset's id, a Hub dataset id"
        one.add_argument("data", metavar="DATA", nargs="+", help=what)
        one.add_argument("--model", metavar="ID", help="count tokens with this model's tokenizer")
        one.add_argument("--max-length", type=int, metavar="N", help="maximum length in tokens")
        _add_settings(one, "a setting of the recipe, with --model: chat_template=training")
        _add_reading(one)
        _add_columns(one)
        one.add_argument("--config", metavar="NAME", help="of a Hub dataset")
        one.add_argument("--split", default="train", metavar="NAME", help="of a Hub dataset")
        one.add_argument("--max-rows", type=_count, metavar="N", help="read only the first rows")
        one.add_argument("--json", action="store_true")
    prepare.add_argument(
        "--out", type=Path, required=True, help="a .jsonl or .parquet file, or a folder of two"
    )
    prepare.add_argument(
        "--fix", action="append", default=[], metavar="CODE=SWITCH", help="as check names them"
    )
    prepare.add_argument("--format", choices=("jsonl", "parquet"), help="of the files in a folder")
    prepare.add_argument("--eval-fraction", type=float, default=0.05, metavar="SHARE")
    prepare.add_argument("--seed", type=int, default=42, metavar="N", help="of the held-out split")
    prepare.add_argument("--overwrite", action="store_true")
    command("datasets", "list the stored datasets, newest first").add_argument(
        "--json", action="store_true"
    )


def _add_reading(command: argparse.ArgumentParser) -> None:
    """The options that say how a file is read."""
    command.add_argument("--encoding", metavar="NAME", help="of text: utf-8, gb18030, cp1252, …")
    command.add_argument("--delimiter", metavar="MARK", help="between columns: , ; | or tab")
    command.add_argument("--sheet", metavar="NAME", help="of a workbook")
    command.add_argument(
        "--header-row", type=_count, metavar="N", help="row or line with the column names"
    )
    command.add_argument(
        "--skip-damaged", action="store_true", help="leave out rows that cannot be read"
    )


def _add_columns(command: argparse.ArgumentParser) -> None:
    """The options that say what the columns of the data mean."""
    command.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="ROLE=COLUMN,…",
        help="what columns are: prompt=COL,completion=COL (also system, input, history, reasoning, "
        "label), messages=COL or text=COL; may be repeated",
    )
    command.add_argument(
        "--chosen", action="store_true", help="of preference data train on the chosen answers"
    )


def _add_chat_options(chat: argparse.ArgumentParser) -> None:
    chat.add_argument("run", metavar="RUN", help="a run id, a run folder or a model id")
    chat.add_argument("--prompt", metavar="TEXT", help="answer this and exit")
    add_prompts(chat)
    chat.add_argument("--system", metavar="TEXT", help="system text, if not the run's own")
    chat.add_argument(
        "--tools",
        metavar="FILE",
        help="a JSON list of tools, or “none”; left out: those of the run's rows",
    )
    chat.add_argument(
        "--thinking",
        choices=["auto", "on", "off"],
        help="for models with a thinking switch; left out: as the run was trained",
    )
    chat.add_argument(
        "--image",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a picture for the first message (may be repeated)",
    )
    chat.add_argument("--base", action="store_true", help="answer with the base model")
    chat.add_argument("--max-new-tokens", type=int, default=256, metavar="N")
    chat.add_argument("--temperature", type=float, default=0.0)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("give a whole number above 0")
    return int(text)


def _command(name: str) -> Callable[[Path, argparse.Namespace], int]:
    """The function of a command; imported on demand, because some load pyarrow or torch."""
    from trainer_backend.cli import data, estimate, prepare, runs, sweep
    from trainer_backend.cli.results import blind, compare, corrections, evaluate

    function = "do_" + name
    modules = (runs, data, prepare, estimate, evaluate, compare, corrections, blind, sweep)
    return next(getattr(one, function) for one in modules if hasattr(one, function))


def main(argv: list[str] | None = None, prog: str = PROG) -> int:
    """Run one command and return its exit code. `prog` is how its help names the program."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["worker"]:
        from trainer_backend.worker.main import worker_process

        return worker_process(Path(argv[1]))
    arguments = build_parser(prog).parse_args(argv)
    try:
        home = open_home(arguments.home)
        return _command(arguments.command)(home, arguments)
    except (UserError, OSError) as caught:
        error = for_people(caught)
        if getattr(arguments, "json", False):
            print(json.dumps({"error": error.to_dict()}, ensure_ascii=False))
        print(f"{error.what}\n  where: {error.where}\n  fix:   {error.fix}", file=sys.stderr)
        for line in offer_lines(error):
            print(line, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
