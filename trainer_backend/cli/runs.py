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
from typing import TYPE_CHECKING, Any

from trainer_backend.cli.data import (
    chosen_settings,
    clear_bar,
    download_line,
    reading_options,
)
from trainer_backend.cli.follow import POLL_S, follow
from trainer_backend.cli.prompts import answer_file, check_options
from trainer_backend.cli.quiet import quiet_libraries
from trainer_backend.comparison.blind import result_dict, tests_of
from trainer_backend.corrections import plan_replay, train_on_corrections
from trainer_backend.data.formats import parse_columns
from trainer_backend.data.store import StoredDataset, resolve_data
from trainer_backend.errors import UserError
from trainer_backend.evaluation.shown import said_first, with_evaluations
from trainer_backend.models import require_model
from trainer_backend.models.loaded.answer_parts import Answer, tool_names
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
from trainer_backend.runs.asking import Asking, asking_of, read_tools
from trainer_backend.runs.files import SPEC
from trainer_backend.runs.notes import Notes
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

if TYPE_CHECKING:
    from trainer_backend.models.loaded.asking import AskedWith  # loads torch


def do_train(home: Path, arguments: argparse.Namespace) -> int:
    """Create a run and train it in the foreground."""
    if arguments.corrections:
        return follow(_corrected_run(home, arguments), arguments.json)
    return follow(_new_run(home, arguments, arguments.recipe), arguments.json)


def _corrected_run(home: Path, arguments: argparse.Namespace) -> Run:
    """Create a run on the corrections kept for --from, with old rows; says what it trains on."""
    if not arguments.start or arguments.data or arguments.recipe or arguments.settings:
        fix = "Give --from RUN, and neither a recipe nor --data nor --set."
        raise UserError("The corrections of which run?", "--corrections", fix)
    run = find_run(home, arguments.start)
    for line in plan_replay(run).sentences():
        print(line, file=sys.stderr)
    return train_on_corrections(run, name=arguments.name, foreground=True)


def _new_run(home: Path, arguments: argparse.Namespace, recipe_name: str | None) -> Run:
    """Create a run from the options of train; no scheduler starts it."""
    before, preset = find_run(home, arguments.start) if arguments.start else None, None
    if recipe_name:
        recipe, preset = resolve_recipe(recipe_name)
    elif before:
        recipe = before.recipe()
    else:
        raise UserError("No recipe was given.", "RECIPE", "Name a preset or a YAML file.")
    changes = chosen_settings(arguments)
    recipe = Recipe.from_dict({**recipe.to_dict(), **changes}, "--set")
    facts = {"name": arguments.name, "preset": preset and preset.id, "foreground": True}
    data = arguments.data or (preset.sample if preset and not before else None)
    if before:
        return new_run_from(before, recipe, _data(home, data, arguments) if data else None, **facts)
    if data is None:
        names = ", ".join(sample.id for sample in samples())
        raise UserError("No data was given.", "--data", f"Name a file or a sample ({names}).")
    require_model(home, recipe.base_model)
    return create_run(home, recipe, _data(home, data, arguments), **facts)


def _data(home: Path, data: str, arguments: argparse.Namespace) -> StoredDataset:
    """The dataset of --data with the columns asked for. Raises UserError while they are unclear."""
    columns = parse_columns(arguments.columns)
    options = reading_options(arguments)
    stored = resolve_data(
        home,
        data,
        options=options,
        columns=columns,
        chosen=arguments.chosen,
        on_download=download_line(getattr(arguments, "json", False)),
    )
    clear_bar(getattr(arguments, "json", False))
    if stored.mapping is None:
        first = stored.problems[0]
        raise UserError(first.what, first.where, first.fix, code=first.code)
    return stored


def do_launch(home: Path, arguments: argparse.Namespace) -> int:
    """Print how to train a run on several machines."""
    folders = (home / "runs" / arguments.run, Path(arguments.run))
    known = any((one / SPEC).exists() for one in folders)
    run = find_run(home, arguments.run) if known else _new_run(home, arguments, arguments.run)
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


def do_resume(home: Path, arguments: argparse.Namespace) -> int:
    """Resume a run in the foreground, for more steps if --set says so."""
    run = find_run(home, arguments.run)
    queue_again(run, foreground=True, changes=chosen_settings(arguments))
    return follow(run, arguments.json)


def do_retry(home: Path, arguments: argparse.Namespace) -> int:
    """Start a failed run again in the foreground with the settings its error suggests."""
    run = find_run(home, arguments.run)
    changes = chosen_settings(arguments) or None
    return follow(retry_run(run, changes, foreground=True), arguments.json)


def do_stop(home: Path, arguments: argparse.Namespace) -> int:
    """Ask a run to stop and wait until it has; a queued one leaves the queue."""
    run = find_run(home, arguments.run)
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
    return _print_run(find_run(home, arguments.run), arguments.json)


def _print_run(run: Run, as_json: bool) -> int:
    summary = with_evaluations(run, examples=True)
    if as_json:
        tests = [result_dict(one) for one in tests_of(run)]
        print(json.dumps({**summary, "blind_tests": tests}, ensure_ascii=False))
    else:
        shown = ("id", "name", "state", "base_model", "dataset", "step", "total_steps", "loss")
        for name in (*shown, "eval_loss", "dir"):
            print(f"{name:>12}  {summary[name]}")
        for line in note_lines(run.notes()):
            print(line)
        for said in said_first(run):
            print(f"{'evaluation':>12}  {said}")
    return 0


def note_lines(notes: Notes) -> list[str]:
    """The tags and the note of a run as lines of its table; none for an empty one."""
    lines = [f"{'tags':>12}  {', '.join(notes.tags)}"] if notes.tags else []
    first, *more = notes.text.splitlines() or [""]
    lines += [f"{'notes':>12}  {first}", *(f"{'':>12}  {line}" for line in more)] if first else []
    return lines


def do_runs(home: Path, arguments: argparse.Namespace) -> int:
    """List the runs, newest first."""
    for run in unfinished_runs(home):
        settle_alone(run)
    summaries = [with_evaluations(run, examples=False) for run in list_runs(home)]
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

    if arguments.prompts or arguments.out:
        check_options(arguments)
    target = find_target(home, arguments.run)
    asking, asked = _asked(home, arguments)
    model = ChatModel(home, target, download_line(quiet=False))
    clear_bar(quiet=False)
    which = "base" if arguments.base or target.checkpoint is None else "tuned"
    sampling = Sampling(arguments.temperature, 1.0, arguments.max_new_tokens)
    system = asking.system if arguments.system is None else arguments.system
    if arguments.prompts:
        return answer_file(model, arguments, system, (which, sampling, asked))
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    pictures = [str(path) for path in arguments.image]
    while True:
        text = arguments.prompt if arguments.prompt is not None else _read_line()
        if text is None:
            return 0
        messages.append({"role": "user", "content": text})
        if pictures:
            messages[-1]["images"], pictures = pictures, []
        answer = _print_stream(model.stream(messages, which, sampling, asked))
        messages.append(answer.as_message())
        if arguments.prompt is not None:
            return 0


def _asked(home: Path, arguments: argparse.Namespace) -> tuple[Asking, "AskedWith"]:
    """How the run was trained, and with what it is asked: its own tools unless --tools says so."""
    from trainer_backend.models.loaded.asking import AskedWith

    is_run = arguments.run.startswith("run-") or (Path(arguments.run).expanduser() / SPEC).exists()
    asking = asking_of(find_run(home, arguments.run)) if is_run else Asking()
    tools = asking.given if arguments.tools is None else _read_tools(arguments.tools)
    if tools and arguments.tools is None:
        names = ", ".join(tool_names(tools))
        print(f"Asked with the tools of its rows: {names}. --tools none: without.", file=sys.stderr)
    thinking = arguments.thinking or asking.thinking
    return asking, AskedWith(tools, thinking, asking.control_tokens)


def _read_tools(text: str) -> list[Any]:
    """The tools of --tools: a JSON file, or none. Raises UserError."""
    if text == "none":
        return []
    try:
        return read_tools(Path(text).expanduser().read_text(encoding="utf-8"), "--tools")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("This file cannot be read.", f"--tools {text}", f"{error}") from error


def _print_stream(answers: Iterable[Answer]) -> Answer:
    """Print an answer as it grows, its reasoning first; returns the whole answer."""
    shown = ""
    for answer in answers:
        text = answer.in_words()
        if answer.reasoning:
            text = f"Thought: {answer.reasoning}" + (f"\n\n{text}" if text else "")
        if not text.startswith(shown):  # a call has become readable
            print()
            shown = ""
        print(text[len(shown) :], end="", flush=True)
        shown = text
    print()
    return answer


def _read_line() -> str | None:
    try:
        return input("> ")
    except EOFError:
        return None


def do_export(home: Path, arguments: argparse.Namespace) -> int:
    """Write a run's model into a folder and print where."""
    quiet_libraries()
    from trainer_backend.export.exporter import export_run

    run, show = find_run(home, arguments.run), download_line(quiet=False)
    folder = export_run(run, arguments.format, arguments.out, show)
    clear_bar(quiet=False)
    print(folder)
    return 0


def find_run(home: Path, run: str) -> Run:
    """RUN of the command line, an id or a folder; a run whose worker is gone is closed first."""
    folder = Path(run).expanduser()
    is_folder = (folder / SPEC).exists()
    found = Run(folder.resolve()) if is_folder else open_run(home, run)
    settle_alone(found)
    return found
