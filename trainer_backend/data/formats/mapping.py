"""Which column is used for what: the choice, its check, and how it is said in a sentence.

Finding a mapping by looking at rows is detection.py; using it on a row is formats.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer_backend.data.formats.column_names import listed, quoted
from trainer_backend.errors import UserError

FORMATS = {
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("prompt", "completion"),
    "messages": ("messages",),
    "sharegpt": ("messages",),
    "text": ("text",),
}  # the roles each format needs
ROLE_NAMES = ("prompt", "completion", "system", "input", "messages", "text", "tools", "images")


@dataclass(frozen=True)
class Mapping:
    """How columns become messages: `roles` maps prompt, completion, system, … to column names.

    `also` are the mappings of rows that are written another way, in a file that mixes them.
    """

    format: str
    roles: dict[str, str]
    also: tuple["Mapping", ...] = ()

    def __post_init__(self):
        also = (one if isinstance(one, Mapping) else Mapping(**one) for one in self.also)
        object.__setattr__(self, "also", tuple(also))

    def needed(self) -> list[str]:
        """The columns without which a row says nothing."""
        return [self.roles[role] for role in FORMATS[self.format]]

    def of_row(self, row: dict) -> "Mapping":
        """The mapping that this row is written for."""
        for one in (self, *self.also):
            if all(row.get(column) not in (None, "", []) for column in one.needed()):
                return one
        return self


def describe_mapping(mapping: Mapping, columns: Sequence[str] = ()) -> str:
    """Say in one or two plain sentences what each column is used for."""
    said = _described(mapping)
    used = set(mapping.roles.values())
    for other in mapping.also:
        missing = listed(mapping.needed(), 3)
        said += f" Rows without {missing} are read as: {_described(other)}"
        used |= set(other.roles.values())
    unused = [name for name in columns if name not in used]
    return said + (f" Not used: {listed(unused, 6)}." if unused else "")


def _described(mapping: Mapping) -> str:
    role = {name: quoted(column) for name, column in mapping.roles.items()}
    if mapping.format == "text":
        said = f"Plain text from {role['text']}: the model learns all of it."
    elif "messages" in role:
        style = "ShareGPT conversations" if mapping.format == "sharegpt" else "Conversations"
        said = f"{style} from {role['messages']}."
    else:
        style = "Alpaca instructions" if mapping.format == "alpaca" else "Prompt and response pairs"
        said = f"{style}: prompt from {role['prompt']}"
        said += f" followed by {role['input']}" if "input" in role else ""
        said += f", answer from {role['completion']}."
    said += f" System message from {role['system']}." if "system" in role else ""
    said += f" Tools from {role['tools']}." if "tools" in role else ""
    return said + (f" Pictures from {role['images']}." if "images" in role else "")


def check_mapping(mapping: Mapping, columns: Sequence[str], where: str) -> None:
    """Refuse a mapping that misses a role or names a column that is not there."""
    fix = f"Choose one of {listed(columns, 12)}."
    needed = FORMATS.get(mapping.format)
    if needed is None:
        raise UserError(
            f"Unknown format {quoted(mapping.format)}.", where, f"Use one of {', '.join(FORMATS)}."
        )
    for role in needed:
        if not mapping.roles.get(role) and (role not in mapping.roles or "" not in columns):
            what = f"No column is chosen for the {role}."
            raise UserError(what, where, fix)
    for role, column in mapping.roles.items():
        if role not in ROLE_NAMES:
            raise UserError(f"Unknown role {quoted(role)}.", where, f"Use {', '.join(ROLE_NAMES)}.")
        if column not in columns:
            raise UserError(f"There is no column {quoted(column)}.", where, fix)
    if len(set(mapping.roles.values())) < len(mapping.roles):
        raise UserError("One column is chosen twice.", where, "Choose a different column for each.")
    for other in mapping.also:
        check_mapping(other, columns, where)
