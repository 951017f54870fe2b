"""Many prompts of a file, answered into a file: the option --prompts of chat."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer_backend.errors import UserError

if TYPE_CHECKING:
    from trainer_backend.models.loaded.asking import AskedWith  # loads torch
    from trainer_backend.models.loaded.generate import Sampling
    from trainer_backend.serving.process.chat import ChatModel
    from trainer_backend.serving.prompts import Answered, Prompts


def add_prompts(chat: argparse.ArgumentParser) -> None:
    """Add the options to the parser of chat."""
    chat.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="answer every prompt of a text, CSV or JSONL file (a line or a row each)",
    )
    chat.add_argument(
        "--out", type=Path, metavar="FILE", help="where --prompts writes: .csv or .jsonl"
    )


def check_options(arguments: argparse.Namespace) -> None:
    """Raise UserError unless both files are given and can be used."""
    from trainer_backend.serving.prompts import check_ending

    if arguments.prompts is None or arguments.out is None or arguments.prompt is not None:
        fix = "Give --prompts FILE and --out FILE, without --prompt."
        raise UserError("Two files are needed.", "--prompts, --out", fix)
    check_ending(arguments.out)
    if not arguments.out.expanduser().resolve().parent.is_dir():
        raise UserError("There is no such folder.", str(arguments.out.parent), "Create it first.")


def answer_file(
    model: "ChatModel",
    arguments: argparse.Namespace,
    system: str,
    how: "tuple[str, Sampling, AskedWith]",
) -> int:
    """Answer all prompts of the file; what was answered is written also after Ctrl-C."""
    from trainer_backend.serving.prompts import answers_as, check_ending, read_prompts

    found = read_prompts(arguments.prompts.expanduser())
    for note in found.notes:
        print(note, file=sys.stderr)
    rows: list[Answered] = []
    try:
        for one in _answered(model, found, system, how):
            rows.append(one)
            print(f"\r{len(rows):,} of {len(found.prompts):,} answered", end="", file=sys.stderr)
    finally:
        print(file=sys.stderr)
        text = answers_as(check_ending(arguments.out), rows, [how[0]])
        arguments.out.expanduser().write_text(text, encoding="utf-8", newline="")
    print(arguments.out)
    return 0


def _answered(
    model: "ChatModel", found: "Prompts", system: str, how: "tuple[str, Sampling, AskedWith]"
) -> "Iterator[Answered]":
    from trainer_backend.serving.process.many import answer_some, parts_of
    from trainer_backend.serving.prompts import Answered

    which, sampling, given = how
    for places in parts_of(len(found.prompts)):
        some = [found.prompts[at] for at in places]
        asked: list[list[dict[str, Any]]] = [list(one.messages(system)) for one in some]
        parts = answer_some(model, asked, which, sampling, given, lambda: None)
        for prompt, part in zip(some, parts, strict=True):
            yield Answered(prompt).with_part(part)
