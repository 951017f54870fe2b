"""Answers after a thought that the generation prompt opens, written as they will be asked for.

R1-Distill and QwQ ask with an open <think>, and their templates write finished answers without it:
the rendered last answer gets the thought back. Only texts are handled; nothing is rendered here.
"""

import re
from collections.abc import Mapping
from typing import Any

# what opens a thought, and what closes it
TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "<|thinking|>": "<|/thinking|>",
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
}
FIELDS = ("reasoning_content", "reasoning", "thinking")  # of a message, the usual one first
GAP = "\n\n"  # between a thought and the answer


def opens_thought(rest: str) -> bool:
    """Whether the end of a generation prompt opens a thought (which it may close again)."""
    return rest.strip().startswith(tuple(TAGS))


def reasoning_of(message: Mapping[str, Any]) -> str:
    """The reasoning of an answer: a field of its own, or what its content has before </think>."""
    for field in FIELDS:
        if isinstance(message.get(field), str) and message[field].strip():
            return message[field].strip()
    content = message.get("content")
    for start, end in TAGS.items():
        if isinstance(content, str) and end in content:
            thought = content.partition(end)[0]
            return thought.rpartition(start)[2].strip()
    return ""


def answer_as_asked(text: str, prompt: str, rest: str, reasoning: str) -> str | None:
    """The rendered text with its last answer as it follows `prompt`, which ends with `rest`.

    None when the text does not begin as the prompt without `rest` does: nothing is guessed then.
    """
    head = prompt.removesuffix(rest)
    if text.startswith(prompt) or head == prompt or not text.startswith(head):
        return None
    start, end = next(pair for pair in TAGS.items() if rest.strip().startswith(pair[0]))
    answer = text[len(head) :]
    written = re.match(rf"\s*{re.escape(start)}(.*?){re.escape(end)}\s*", answer, re.DOTALL)
    if written:
        reasoning = written[1].strip() or reasoning
        answer = answer[written.end() :]
    if end in rest:  # asked without thinking
        return prompt + answer.lstrip("\n")
    joint = "" if rest[-1:].isspace() else "\n"
    return prompt + joint + reasoning + "\n" + end + GAP + answer.lstrip("\n")
