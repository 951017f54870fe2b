"""Texts that somebody wrote with a chat template before: named by the family of their turn marks.

How such texts are encoded is not known here.
"""

import re
from collections.abc import Mapping, Sequence

from trainer_backend.data.formats.mapping import ColumnMapping, quoted

LOOKED_AT = 50
FAMILIES = {
    "ChatML": r"<\|im_start\|> ?\w+",
    "Llama 3": r"<\|start_header_id\|>",
    "Llama 4": r"<\|header_start\|>",
    "Llama 2 or Mistral": r"\[INST\]",
    "Gemma": r"<start_of_turn> ?(?:user|model)",
    "Phi, Zephyr or GLM": r"<\|(?:user|assistant)\|>",
    "DeepSeek": r"<｜(?:User|Assistant)｜>",
    "Command": r"<\|START_OF_TURN_TOKEN\|>",
    "Harmony (gpt-oss)": r"<\|start\|>\w[^<>]{0,80}(?:<\|channel\|>\w+)?<\|message\|>",
    "Granite": r"<\|start_of_role\|>",
}


def rendered_words(rows: Sequence[Mapping], mapping: ColumnMapping) -> str:
    """A sentence on the template that the texts are written with already; "" if with none."""
    column = mapping.roles.get("text") or mapping.roles.get("prompt")
    if column is None:
        return ""
    texts = [str(row.get(column) or "")[:4_000] for row in rows[:LOOKED_AT]]
    for family, marks in FAMILIES.items():
        found = [match[0] for text in texts if (match := re.search(marks, text))]
        if texts and len(found) * 2 > len(texts):
            written = (
                f" {quoted(column)} is written with a chat template already "
                f"({family}: {quoted(found[0])})"
            )
            if mapping.format == "text":
                return f"{written}; no other is put around it."
            return f"{written}, and the model’s own is put around it a second time."
    return ""
