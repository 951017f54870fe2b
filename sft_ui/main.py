"""Starts the app, and hands every command to the command line: `sft-studio`.

Only flags, processes and signals are known here. The page's libraries are imported late, so that
`--help` and the commands answer at once.
"""

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from trainer_backend import __version__
from trainer_backend.errors import UserError
from trainer_backend.home import open_home
from trainer_backend.processes import known_limits, on_stop_signal

PORTS = range(7860, 7960)
CONTAINER_GRACE_S = 8.0  # of the ten seconds until a container is ended by force


def build_parser() -> argparse.ArgumentParser:
    """The flags of the app."""
    on_space = bool(os.environ.get("SPACE_ID"))
    parser = argparse.ArgumentParser(
        description="Open SFT Studio in the browser.",
        epilog="With a command (train, check, …) it runs that; see %(prog)s train --help.",
    )
    parser.add_argument("--version", action="version", version=f"SFT Studio {__version__}")
    default_host = "0.0.0.0" if on_space else "127.0.0.1"
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME") or default_host)
    parser.add_argument("--port", type=int, default=os.environ.get("GRADIO_SERVER_PORT"))
    parser.add_argument("--home", help="folder of datasets, runs, models (SFT_STUDIO_HOME)")
    parser.add_argument("--auth", metavar="USER:PASSWORD", help="login (SFT_STUDIO_AUTH)")
    parser.add_argument("--allow-open", action="store_true", help="other machines, without login")
    return parser


def free_port(host: str, asked: int | None) -> int:
    """The port to serve on: the one asked for, else the first free one of PORTS.

    Raises UserError when it is taken or cannot be bound.
    """
    for port in [asked] if asked else PORTS:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return port
            except (OSError, OverflowError) as error:
                reason = error
    where = f"{host}:{asked or f'{PORTS.start}-{PORTS.stop - 1}'} ({reason})"
    fix = "Choose another one with --port, or end the program that uses it."
    raise UserError("This address cannot be used.", where, fix)


def serve(arguments: argparse.Namespace) -> None:
    """Start scheduler, model process and page, and serve until the process is asked to end.

    Runs continue without the app. In a container, where they cannot, they are saved and resume at
    the next start. On a Space without a login only a page that explains this is served.
    """
    import uvicorn

    from sft_ui import access
    from sft_ui.layout import build_app, launch_options
    from sft_ui.locked import FIX, WHAT, locked_app
    from trainer_backend.estimation.device import measure_in_background
    from trainer_backend.hardware import hardware
    from trainer_backend.scheduling import Scheduler
    from trainer_backend.serving.client import ModelProcess

    login = access.read_login(arguments.auth)
    if access.is_locked(login, allow_open=arguments.allow_open):
        print(f"{WHAT} {FIX}", flush=True)
        port = free_port(arguments.host, arguments.port)
        uvicorn.run(locked_app, host=arguments.host, port=port, log_level="warning", lifespan="off")
        return
    home = open_home(arguments.home)
    if problem := hardware().problem:
        print(f"Note: {problem}", flush=True)
    options = launch_options(
        home,
        host=arguments.host,
        port=free_port(arguments.host, arguments.port),
        auth=arguments.auth,
        allow_open=arguments.allow_open,
    )
    model_process = ModelProcess(home)
    scheduler = Scheduler(home, make_room=model_process.make_room)
    scheduler.start()
    measure_in_background(home)
    asked_to_end: list[bool] = []

    def end() -> NoReturn:
        asked_to_end.append(True)
        raise KeyboardInterrupt

    on_stop_signal(end, ctrl_c=False)
    try:
        print(f"Home: {home}", flush=True)
        build_app(home, scheduler, model_process).launch(**options)
    finally:
        if asked_to_end and in_container():
            scheduler.pause_all(CONTAINER_GRACE_S)
        scheduler.close()
        model_process.unload()


def in_container() -> bool:
    """Whether this is a container: SIGTERM then means that the workers will be killed as well."""
    marks = (Path("/.dockerenv"), Path("/run/.containerenv"))
    named = ("SPACE_ID", "KUBERNETES_SERVICE_HOST", "container")
    return os.getpid() == 1 or any(map(os.environ.get, named)) or any(map(Path.exists, marks))


def main(argv: list[str] | None = None) -> int:
    """Open the app, or run a command; exit code 0 fine, 1 failed, 2 the user must fix something."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and not argv[0].startswith("-"):
        from trainer_backend.__main__ import main as run_command

        return run_command(argv, prog=Path(sys.argv[0]).name)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        arguments = build_parser().parse_args(argv)
        for limit in known_limits():
            print(f"Note: {limit}", flush=True)
        serve(arguments)
    except UserError as error:
        print(f"{error.what}\n  where: {error.where}\n  fix:   {error.fix}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0
