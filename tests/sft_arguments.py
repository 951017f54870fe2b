"""What the table of SFTConfig's arguments must say, read from the class itself."""

import types
import typing
from dataclasses import fields
from enum import Enum

WORDS = {bool: "bool", int: "int", float: "float", str: "text", dict: "mapping", list: "list"}


def kinds_of(hint) -> list[str]:
    """The kinds of value that an annotation allows, in the words of the table."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [kind for one in typing.get_args(hint) for kind in kinds_of(one)]
    if typing.get_origin(hint) is typing.Literal:
        return [WORDS[type(one)] for one in typing.get_args(hint)]
    plain = typing.get_origin(hint) or hint
    if plain is type(None):
        return ["nothing"]
    if isinstance(plain, type) and issubclass(plain, Enum):
        return ["text"]
    return [WORDS.get(plain, "object")]


def sft_arguments() -> dict[str, str]:
    """{name: its kinds, in one text} for every argument of SFTConfig."""
    from trainer_backend.training.sft_config import SFTConfig

    hints = typing.get_type_hints(SFTConfig)
    return {
        one.name: " ".join(sorted(set(kinds_of(hints[one.name]))))
        for one in fields(SFTConfig)
        if one.init
    }


def choices_of(names) -> dict[str, tuple[str, ...]]:
    """The choices that the class declares for some of its arguments."""
    from trainer_backend.tokens.packing import STRATEGIES
    from trainer_backend.training.sft_config import SFTConfig

    declared = {one.name: one.metadata.get("choices") for one in fields(SFTConfig)}
    declared["packing_strategy"] = STRATEGIES
    return {name: tuple(declared[name]) for name in names if declared[name]}


def table_lines() -> str:
    """The table as it is written in the source."""
    return "\n".join(f'    "{name}": "{kinds}",' for name, kinds in sft_arguments().items())
