"""What each command of the command line does.

The options are in __main__.py, the work in its own rooms; data has data_commands.py.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from .data.store import resolve_data
from .data_commands import do_check, do_datasets
from .errors import UserError
from .launch import (
    Fleet,
    check_fleet,
    leave_to_others,
    machine_commands,
    processes_here,
    slurm_script,
)
from .prepare_command import do_prepare
from .presets import resolve_recipe, samples
from .recipe import Recipe
from .runs import ACTIVE, Run, create_run, list_runs, open_run
from .scheduler import queue_again
from .worker import force_stop, settle, start_worker

__all__ = ["do_check", "do_datasets", "do_prepare"]
POLL_S = 0.3


def do_train(home: Path, arguments: argparse.Namespace) -> int:
    """Create a run and train it in the foreground."""
    return _follow(_new_run(home, arguments, arguments.recipe), arguments.json)


def _new_run(home: Path, arguments: argparse.Namespace, recipe_name: str) -> Run:
    """A run that no scheduler takes, as the options of train say."""
    recipe, preset = resolve_recipe(recipe_name)
    changes = dict(_setting(text) for text in arguments.settings)
    recipe = Recipe.from_dict({**recipe.to_dict(), **changes}, "--set")
    data = arguments.data or (preset.sample if preset else None)
    if data is None:
        names = ", ".join(sample.id for sample in samples())
        raise UserError("No data was given.", "--data", f"Name a file or a sample ({names}).")
    return create_run(
        home,
        recipe,
        resolve_data(home, data),
        name=arguments.name,
        preset=preset.id if preset else None,
        foreground=True,
    )


def do_launch(home: Path, arguments: argparse.Namespace) -> int:
    """Print how to train a run on several machines."""
    known = (home / "runs" / arguments.run).exists() or (Path(arguments.run) / "spec.json").exists()
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
        hint = "Save this and submit it with sbatch; submitted again, it goes on."
    else:
        print("\n".join(machine_commands(run, fleet)))
        hint = "Start one line on each machine, at about the same time."
    print(f"{hint} All machines must see {run.dir} under this name.", file=sys.stderr)
    return 0


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"“{text[:60]}” is not a setting.", "--set", "Write --set max_steps=20.")
    return name.strip(), value


def do_resume(home: Path, arguments: argparse.Namespace) -> int:
    """Go on with a run in the foreground, longer if asked to."""
    run = _find(home, arguments.run)
    changes = dict(_setting(text) for text in arguments.settings)
    queue_again(run, foreground=True, changes=changes)
    return _follow(run, arguments.json)


def _follow(run: Run, as_json: bool) -> int:
    """Start the worker, show its progress until it ends, print the run; the exit code says how."""
    process = start_worker(run)
    try:
        while process.poll() is None:
            _show_progress(run, as_json)
            _wait(process)
    except KeyboardInterrupt:
        print("\nFinishing the step and saving…", file=sys.stderr)
        run.request_stop()
        try:
            process.wait()
        except KeyboardInterrupt:
            force_stop(run)
            process.wait()
    settle(run, process.returncode)
    if run.state()["state"] == "queued":  # the memory ran out: once more with half the batch
        return _follow(run, as_json)
    _show_progress(run, as_json, end="\n")
    return _report_end(run, as_json)


def _wait(process: subprocess.Popen) -> None:
    try:
        process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        pass


def _report_end(run: Run, as_json: bool) -> int:
    summary = run.summary()
    error = summary["error"]
    if error:
        print(
            f"{error['what']}\n  where: {error['where']}\n  fix:   {error['fix']}", file=sys.stderr
        )
    for warning in summary["warnings"]:
        print(f"Note: {warning}", file=sys.stderr)
    if answers := summary["answers"]:
        print(
            f"Right answers on {answers['rows']} held-out rows: "
            f"base {answers['base']:.0%}, tuned {answers['tuned']:.0%}.",
            file=sys.stderr,
        )
    if not as_json:
        print(f"Run folder: {run.dir}")
    print(json.dumps(summary, ensure_ascii=False))
    if summary["state"] == "failed":
        return 2 if error and error.get("user") else 1
    return 0


def _show_progress(run: Run, as_json: bool, end: str = "") -> None:
    if as_json or not sys.stderr.isatty():
        return
    state = run.state()
    step, total = state.get("step") or 0, state.get("total_steps") or 0
    filled = int(30 * step / total) if total else 0
    parts = [state["state"], f"[{'█' * filled}{'·' * (30 - filled)}] {step}/{total}"]
    if (facts := state.get("progress")) and state["state"] in ACTIVE:
        parts.append(f"{facts['what']} {facts['done']:g}/{facts['total']:g} {facts['unit']}")
    if state.get("loss") is not None:
        parts.append(f"loss {state['loss']:.4f}")
    print("\r\033[K" + "  ".join(parts), end=end, file=sys.stderr, flush=True)


def do_stop(home: Path, arguments: argparse.Namespace) -> int:
    """Ask a run to end and wait until it has."""
    run = _find(home, arguments.run)
    if run.state()["state"] not in (*ACTIVE, "queued"):
        raise UserError("This run is not running.", run.name(), "Nothing to stop.")
    run.request_stop()
    while run.state()["state"] in ACTIVE and run.is_alive():
        time.sleep(POLL_S)
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
    summaries = [run.summary() for run in list_runs(home)]
    if arguments.json:
        print(json.dumps(summaries, ensure_ascii=False))
    else:
        for one in summaries:
            loss = f"{one['loss']:.4f}" if one["loss"] is not None else "-"
            steps = f"{one['step']}/{one['total_steps']}"
            print(f"{one['id']}  {one['state']:<9}  {steps:>11}  loss {loss:>8}  {one['name']}")
    return 0


def do_chat(home: Path, arguments: argparse.Namespace) -> int:
    """Answer one question, or hold a conversation on the terminal."""
    from .chat import ChatModel, find_target
    from .generate import Sampling

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
    from .export import export_run

    print(export_run(_find(home, arguments.run), arguments.format, arguments.out))
    return 0


def _find(home: Path, run: str) -> Run:
    """RUN of the command line: an id, or the run's folder."""
    folder = Path(run).expanduser()
    if (folder / "spec.json").exists():
        return Run(folder.resolve())
    return open_run(home, run)
