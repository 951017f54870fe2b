"""Column mappings: which column has which role, its validation, its description in words.

Mappings are neither detected nor applied here.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer_backend.errors import UserError

SYNONYMS = {
    "prompt": ("prompt", "question", "instruction", "input", "query", "user", "human", "request",
               "user_message", "user_prompt", "input_text", "problem", "source_text", "q",
               "inputs", "user_input", "user_query", "user_question",
               "frage", "pregunta", "pergunta", "domanda", "vraag", "вопрос", "问题",
               "問題", "質問", "질문", "pytanie", "fråga", "spørgsmål", "spørsmål", "soru",
               "otázka"),
    "completion": ("completion", "response", "answer", "output", "reply", "assistant", "target",
                   "assistant_message", "target_text", "output_text", "model_response",
                   "expected_output", "solution", "bot", "a", "targets", "assistant_response",
                   "model_output", "ai_response", "answers_text",
                   "antwort", "respuesta", "resposta", "réponse", "reponse", "risposta",
                   "antwoord", "ответ", "答案", "回答", "回复",
                   "답변", "odpowiedź", "svar", "cevap", "odpověď"),
    "system": ("system", "system_prompt", "system_message", "system_instruction",
               "systeminstruction"),
    "input": ("input", "context", "contexts", "passage", "paragraph", "background", "evidence",
              "article", "document", "documents", "reference_text", "knowledge"),
    "history": ("history", "chat_history", "conversation_history", "dialogue_history",
                "dialog_history", "previous_turns", "previous_messages", "past_turns"),
    "reasoning": ("reasoning", "reasoning_content", "reasoning_trace", "thinking", "thought",
                  "thoughts", "complex_cot", "cot", "chain_of_thought", "think",
                  "thinking_trajectories"),
    "messages": ("messages", "conversations", "conversation", "chat", "dialog", "dialogue",
                 "turns", "contents"),
    "text": ("text", "content", "document", "body"),
    "tools": ("tools", "functions", "tool_config", "toolconfig", "function_declarations",
              "functiondeclarations"),
    "images": ("images", "image", "img", "picture", "pictures", "photo", "image_path", "file_name"),
}  # fmt: skip


def columns_of(rows: Sequence[dict]) -> list[str]:
    """All column names, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def plain_name(name: str) -> str:
    """A name in lower case with “_” for spaces and punctuation: “User Message” → “user_message”."""
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def named(columns: list[str], role: str) -> list[str]:
    """The columns whose name is a synonym of the role."""
    return [name for name in columns if plain_name(name) in SYNONYMS[role]]


def quoted(name: str) -> str:
    """A column's name in quotes, at most 60 characters of it."""
    return f"“{name}”" if len(name) <= 60 else f"“{name[:60]}…”"


def listed(names: Iterable[str], most: int) -> str:
    """The first `most` names in quotes, and how many more there are."""
    shown = [quoted(name) for name in names]
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


FORMATS: dict[str, tuple[str, ...]] = {
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("prompt", "completion"),
    "messages": ("messages",),
    "sharegpt": ("messages",),
    "text": ("text",),
}  # the roles each format needs
EMPTY: tuple[Any, ...] = (None, "", [])  # cells without a value
ROLE_NAMES = (
    "prompt", "completion", "system", "input", "history", "reasoning", "label", "score",
    "messages", "text", "tools", "images",
)  # fmt: skip
_WITH = {
    "text": ("text",),
    "messages": ("messages", "completion", "reasoning", "system", "label", "tools", "images"),
    "prompt_completion": tuple(one for one in ROLE_NAMES if one not in ("messages", "text")),
}  # the roles that go together


@dataclass(frozen=True)
class ColumnMapping:
    """How columns become messages: `roles` maps prompt, completion, system, … to column names.

    `also` are further mappings, for files whose rows differ in format.
    """

    format: str
    roles: dict[str, str]
    also: tuple["ColumnMapping", ...] = ()

    def __post_init__(self) -> None:
        also = (
            one if isinstance(one, ColumnMapping) else ColumnMapping(**one) for one in self.also
        )
        object.__setattr__(self, "also", tuple(also))

    def needed(self) -> list[str]:
        """The columns that a row must fill."""
        return [self.roles[role] for role in FORMATS[self.format]]

    def is_filled(self, row: Mapping[str, Any], empty: Container = EMPTY) -> bool:
        """Whether no needed column of the row is `empty`."""
        for role in FORMATS[self.format]:  # no generator: it is asked for every row
            if row.get(self.roles[role]) in empty:
                return False
        return True

    def of_row(self, row: dict) -> "ColumnMapping":
        """The first of this mapping and `also` whose columns the row fills; else this one."""
        return next((one for one in (self, *self.also) if one.is_filled(row)), self)


def describe_mapping(mapping: ColumnMapping, columns: Sequence[str] = ()) -> str:
    """A few sentences: what each column is used for, and which of `columns` are not used."""
    sentence = _described(mapping)
    for other in mapping.also:
        missing = listed(mapping.needed(), 3)
        sentence += f" Rows without {missing} are read as: {_described(other)}"
    unused = unused_columns(mapping, columns)
    sentence += f" Not used: {listed(unused, 12)}." if unused else ""
    for name in unused:
        what = _FILES.get(plain_name(name))
        if what == "images" and "images" not in mapping.roles:
            sentence += f" The images that {quoted(name)} names are not in the upload."
        elif what and what != "images":
            sentence += f" The {what} of {quoted(name)} are not trained on: only text and images."
    return sentence


def unused_columns(mapping: ColumnMapping, columns: Sequence[str]) -> list[str]:
    """The columns of which nothing is trained on, in their order."""
    used = {name for one in (mapping, *mapping.also) for name in one.roles.values()}
    return [name for name in columns if name not in used]


def _described(mapping: ColumnMapping) -> str:
    role = {name: quoted(column) for name, column in mapping.roles.items()}
    if mapping.format == "text":
        return f"Plain text from {role['text']}: the model learns all of it."
    if "messages" in role:
        style = "ShareGPT conversations" if mapping.format == "sharegpt" else "Conversations"
        sentence = f"{style} from {role['messages']}"
        sentence += f", answer from {role['completion']}." if "completion" in role else "."
    else:
        style = "Alpaca instructions" if mapping.format == "alpaca" else "Prompt and response pairs"
        sentence = f"{style}: prompt from {role['prompt']}"
        sentence += f" followed by {role['input']}" if "input" in role else ""
        sentence += f", answer from {role['completion']}."
    for extra, words in _EXTRAS.items():
        sentence += f" {words.format(role[extra])}" if extra in role else ""
    return sentence


_EXTRAS = {
    "history": "Earlier turns from {}; their answers are learned too.",
    "reasoning": "The answer’s reasoning from {}.",
    "label": "Only rows in which {} marks the answer as good.",
    "score": "Of several answers to one prompt only the one with the best {}.",
    "system": "System message from {}.",
    "tools": "Tools from {}.",
    "images": "Images from {}.",
}  # what a role beside prompt and answer is for, in a sentence
_FILES = {
    **dict.fromkeys([name for name in SYNONYMS["images"] if name != "file_name"], "images"),
    **dict.fromkeys(("video", "videos", "video_path"), "videos"),
    **dict.fromkeys(("audio", "audios", "audio_path"), "sounds"),
}  # by the name of a column: what it holds that is not text


def _family(format: str) -> str:
    return {"alpaca": "prompt_completion", "sharegpt": "messages"}.get(format, format)


def check_mapping(mapping: ColumnMapping, columns: Sequence[str], where: str) -> None:
    """Raises UserError for an unknown format or role, a missing role, or an unknown column."""
    fix = f"Choose one of {listed(columns, 12)}."
    check_roles(mapping, where, fix, unnamed="" in columns)
    for column in mapping.roles.values():
        if column not in columns:
            raise UserError(f"There is no column {quoted(column)}.", where, fix)
    for other in mapping.also:
        check_mapping(other, columns, where)


def check_roles(
    mapping: ColumnMapping, where: str, fix: str = "Name a column for it.", unnamed: bool = False
) -> None:
    """Raises UserError for roles that make no example, whatever the columns.

    `fix` is the advice for a missing role; `unnamed`: a column without a name may have one.
    """
    needed = FORMATS.get(mapping.format)
    if needed is None:
        raise UserError(
            f"Unknown format {quoted(mapping.format)}.", where, f"Use one of {', '.join(FORMATS)}."
        )
    for role in needed:
        if not mapping.roles.get(role) and not (unnamed and role in mapping.roles):
            raise UserError(f"No column is chosen for the {role}.", where, fix)
    allowed = _WITH[_family(mapping.format)]
    for role in mapping.roles:
        if role not in ROLE_NAMES:
            raise UserError(f"Unknown role {quoted(role)}.", where, f"Use {', '.join(ROLE_NAMES)}.")
        if role not in allowed:
            what = f"The role {role} does not go with {' and '.join(needed)}."
            raise UserError(what, where, f"Use {', '.join(allowed)}.")
    if len(set(mapping.roles.values())) < len(mapping.roles):
        raise UserError("One column is chosen twice.", where, "Choose a different column for each.")
