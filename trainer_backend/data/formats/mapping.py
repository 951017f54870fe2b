"""Which column is used for what: the choice, its check, and how it is said in a sentence.

Finding a mapping by looking at rows is detection.py; using it on a row is formats.py.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainer_backend.errors import UserError

SYNONYMS = {
    "prompt": ("prompt", "question", "instruction", "input", "query", "user", "human", "request",
               "user_message", "user_prompt", "input_text", "problem", "source_text", "q",
               "frage", "pregunta", "pergunta", "domanda", "vraag", "вопрос", "问题",
               "問題"),
    "completion": ("completion", "response", "answer", "output", "reply", "assistant", "target",
                   "assistant_message", "target_text", "output_text", "model_response",
                   "expected_output", "solution", "bot", "a",
                   "antwort", "respuesta", "resposta", "réponse", "reponse", "risposta",
                   "antwoord", "ответ", "答案", "回答", "回复"),
    "system": ("system", "system_prompt", "system_message"),
    "input": ("input", "context"),
    "messages": ("messages", "conversations", "conversation", "chat", "dialog", "dialogue",
                 "turns"),
    "text": ("text", "content", "document", "body"),
    "tools": ("tools", "functions"),
    "images": ("images", "image", "img", "picture", "pictures", "photo", "image_path", "file_name"),
}  # fmt: skip


def columns_of(rows: Sequence[dict]) -> list[str]:
    """All column names in the order they appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def plain_name(name: str) -> str:
    """A name without case, spaces and marks: “User Message” is “user_message”."""
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def named(columns: list[str], role: str) -> list[str]:
    return [name for name in columns if plain_name(name) in SYNONYMS[role]]


def is_label(name: str) -> bool:
    return plain_name(name) in (
        "label",
        "labels",
        "class",
        "category",
        "sentiment",
        "score",
        "summary",
    )


def quoted(name: str) -> str:
    """A column's name as a sentence shows it, cut if it is long."""
    return f"“{name}”" if len(name) <= 60 else f"“{name[:60]}…”"


def listed(names: Iterable[str], most: int) -> str:
    """Names one after another, and how many more there are."""
    shown = [quoted(name) for name in names]
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


FORMATS = {
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("prompt", "completion"),
    "messages": ("messages",),
    "sharegpt": ("messages",),
    "text": ("text",),
}  # the roles each format needs
ROLE_NAMES = ("prompt", "completion", "system", "input", "messages", "text", "tools", "images")


@dataclass(frozen=True)
class ColumnMapping:
    """How columns become messages: `roles` maps prompt, completion, system, … to column names.

    `also` are the mappings of rows that are written another way, in a file that mixes them.
    """

    format: str
    roles: dict[str, str]
    also: tuple["ColumnMapping", ...] = ()

    def __post_init__(self):
        also = (
            one if isinstance(one, ColumnMapping) else ColumnMapping(**one) for one in self.also
        )
        object.__setattr__(self, "also", tuple(also))

    def needed(self) -> list[str]:
        """The columns without which a row says nothing."""
        return [self.roles[role] for role in FORMATS[self.format]]

    def of_row(self, row: dict) -> "ColumnMapping":
        """The mapping that this row is written for."""
        for one in (self, *self.also):
            if all(row.get(column) not in (None, "", []) for column in one.needed()):
                return one
        return self


def describe_mapping(mapping: ColumnMapping, columns: Sequence[str] = ()) -> str:
    """Say in one or two plain sentences what each column is used for."""
    said = _described(mapping)
    used = set(mapping.roles.values())
    for other in mapping.also:
        missing = listed(mapping.needed(), 3)
        said += f" Rows without {missing} are read as: {_described(other)}"
        used |= set(other.roles.values())
    unused = [name for name in columns if name not in used]
    return said + (f" Not used: {listed(unused, 6)}." if unused else "")


def _described(mapping: ColumnMapping) -> str:
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


def check_mapping(mapping: ColumnMapping, columns: Sequence[str], where: str) -> None:
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
