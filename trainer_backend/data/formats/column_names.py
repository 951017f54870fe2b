"""What the names of columns mean: synonyms of each role, and how a name is shown.

Deciding with names and values together is detection.py.
"""

import re
from collections.abc import Iterable, Sequence

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
