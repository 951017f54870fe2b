"""The commands about runs: train, launch, resume, retry, stop, show, runs, chat, export.

Only choosing and printing happens here: options come parsed, and the libraries do the work.
"""

import argparse
import json
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from trainer_backend.cli.data import reading_options
from trainer_backend.cli.follow import POLL_S, follow
from trainer_backend.cli.quiet import quiet_libraries
from trainer_backend.data.formats import parse_columns
from trainer_backend.data.store import StoredDataset, resolve_data
from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe, resolve_recipe, samples
from trainer_backend.runs import (
    LIVE,
    Run,
    create_run,
    list_runs,
    new_run_from,
    open_run,
    retry_run,
    unfinished_runs,
    unreadable_runs,
)
from trainer_backend.runs.files import SPEC
from trainer_backend.scheduling import (
    Fleet,
    check_fleet,
    leave_to_others,
    machine_commands,
    processes_here,
    queue_again,
    settle_alone,
    slurm_script,
)


def do_train(home: Path, arguments: argparse.Namespace) -> int:
    """Create a run and train it in the foreground."""
    return follow(_new_run(home, arguments, arguments.recipe), arguments.json)


def _new_run(home: Path, arguments: argparse.Namespace, recipe_name: str | None) -> Run:
    """Create a run from the options of train; no scheduler starts it."""
    before, preset = _find(home, arguments.start) if arguments.start else None, None
    if recipe_name:
        recipe, preset = resolve_recipe(recipe_name)
    elif before:
        recipe = before.recipe()
    else:
        raise UserError("No recipe was given.", "RECIPE", "Name a preset or a YAML file.")
    changes = _settings(arguments)
    recipe = Recipe.from_dict({**recipe.to_dict(), **changes}, "--set")
    facts = {"name": arguments.name, "preset": preset and preset.id, "foreground": True}
    data = arguments.data or (preset.sample if preset and not before else None)
    if before:
        return new_run_from(before, recipe, _data(home, data, arguments) if data else None, **facts)
    if data is None:
        names = ", ".join(sample.id for sample in samples())
        raise UserError("No data was given.", "--data", f"Name a file or a sample ({names}).")
    return create_run(home, recipe, _data(home, data, arguments), **facts)


def _data(home: Path, data: str, arguments: argparse.Namespace) -> StoredDataset:
    """The dataset of --data with the columns asked for. Raises UserError while they are unclear."""
    columns = parse_columns(arguments.columns)
    options = reading_options(arguments)
    stored = resolve_data(home, data, options=options, columns=columns, chosen=arguments.chosen)
    if stored.mapping is None:
        first = stored.problems[0]
        raise UserError(first.what, first.where, first.fix, code=first.code)
    return stored


def do_launch(home: Path, arguments: argparse.Namespace) -> int:
    """Print how to train a run on several machines."""
    folders = (home / "runs" / arguments.run, Path(arguments.run))
    known = any((one / SPEC).exists() for one in folders)
    run = _find(home, arguments.run) if known else _new_run(home, arguments, arguments.run)
    if not known:
        leave_to_others(run)
    each = arguments.processes_per_node
    fleet = Fleet(
        nodes=arguments.nodes,
        processes_per_node=processes_here(run) if each is None else each,
        host=arguments.host or socket.gethostname(),
        port=arguments.port,
    )
    check_fleet(run, fleet)
    if arguments.slurm:
        print(slurm_script(run, fleet), end="")
        hint = "Save this and submit it with sbatch; submit it again to resume."
    else:
        print("\n".join(machine_commands(run, fleet)))
        hint = "Start one line on each machine, at about the same time."
    print(f"{hint} All machines must see {run.dir} under this path.", file=sys.stderr)
    return 0


def _settings(arguments: argparse.Namespace) -> dict[str, str]:
    return dict(_setting(text) for text in arguments.settings)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"“{text[:60]}” is not a setting.", "--set", "Write --set max_steps=20.")
    return name.strip(), value


def do_resume(home: Path, arguments: argparse.Namespace) -> int:
    """Resume a run in the foreground, for more steps if --set says so."""
    run = _find(home, arguments.run)
    queue_again(run, foreground=True, changes=_settings(arguments))
    return follow(run, arguments.json)


def do_retry(home: Path, arguments: argparse.Namespace) -> int:
    """Start a failed run again in the foreground with the settings its error suggests."""
    run = _find(home, arguments.run)
    return follow(retry_run(run, _settings(arguments) or None, foreground=True), arguments.json)


def do_stop(home: Path, arguments: argparse.Namespace) -> int:
    """Ask a run to stop and wait until it has; a queued one leaves the queue."""
    run = _find(home, arguments.run)
    if run.state()["state"] not in LIVE:
        raise UserError("This run is not running.", run.name(), "Nothing to stop.")
    while run.state()["state"] in LIVE:
        if not run.stop_requested():
            run.request_stop()
        time.sleep(POLL_S)
        settle_alone(run)
    return _print_run(run, arguments.json)


def do_show(home: Path, arguments: argparse.Namespace) -> int:
    """Print a run."""
    return _print_run(_find(home, arguments.run), arguments.json)


def _print_run(run: Run, as_json: bool) -> int:
    summary = run.summary()
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        shown = ("id", "name", "state", "base_model", "dataset", "step", "total_steps", "loss")
        for name in (*shown, "eval_loss", "dir"):
            print(f"{name:>12}  {summary[name]}")
    return 0


def do_runs(home: Path, arguments: argparse.Namespace) -> int:
    """List the runs, newest first."""
    for run in unfinished_runs(home):
        settle_alone(run)
    summaries = [run.summary() for run in list_runs(home)]
    if arguments.json:
        print(json.dumps(summaries, ensure_ascii=False))
    else:
        for one in summaries:
            loss = f"{one['loss']:.4f}" if one["loss"] is not None else "-"
            steps = f"{one['step']}/{one['total_steps']}"
            print(f"{one['id']}  {one['state']:<9}  {steps:>11}  loss {loss:>8}  {one['name']}")
    for run, error in unreadable_runs(home):
        print(f"{run.id} cannot be read: {error.what} {error.fix}", file=sys.stderr)
    return 0


def do_chat(home: Path, arguments: argparse.Namespace) -> int:
    """Answer one prompt, or hold a conversation on the terminal."""
    quiet_libraries()
    from trainer_backend.models.loaded.generate import Sampling
    from trainer_backend.runs import find_target
    from trainer_backend.serving.process.chat import ChatModel

    target = find_target(home, arguments.run)
    model = ChatModel(home, target)
    which = "base" if arguments.base or target.checkpoint is None else "tuned"
    sampling = Sampling(arguments.temperature, 1.0, arguments.max_new_tokens)
    messages = [{"role": "system", "content": arguments.system}] if arguments.system else []
    while True:
        text = arguments.prompt if arguments.prompt is not None else _read_line()
        if text is None:
            return 0
        messages.append({"role": "user", "content": text})
        answer = _print_stream(model.stream(messages, which, sampling))
        messages.append({"role": "assistant", "content": answer})
        if arguments.prompt is not None:
            return 0


def _print_stream(answers: Iterable[str]) -> str:
    shown = ""
    for text in answers:
        print(text[len(shown) :], end="", flush=True)
        shown = text
    print()
    return shown


def _read_line() -> str | None:
    try:
        return input("> ")
    except EOFError:
        return None


def do_export(home: Path, arguments: argparse.Namespace) -> int:
    """Write a run's model into a folder and print where."""
    quiet_libraries()
    from trainer_backend.export.exporter import export_run

    print(export_run(_find(home, arguments.run), arguments.format, arguments.out))
    return 0


def _find(home: Path, run: str) -> Run:
    """RUN of the command line, an id or a folder; a run whose worker is gone is closed first."""
    folder = Path(run).expanduser()
    is_folder = (folder / SPEC).exists()
    found = Run(folder.resolve()) if is_folder else open_run(home, run)
    settle_alone(found)
    return found
