"""Texts that are rendered already: they carry the turn marks of a chat template.

Recognised are the marks of the tokenizer's own template and those of well-known families. Nothing
is rendered but two questions and answers of one letter.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.tokens.assistant_mask import Conversation
from trainer_backend.tokens.control.spelling import control_tokens

_SIGNS = "\ue000\ue001\ue002\ue003"  # a question, its answer, and the same again


@dataclass(frozen=True)
class Family:
    """Turn marks of a family of chat templates, and the control tokens among them."""

    name: str
    marks: re.Pattern[str]
    tokens: frozenset[str]


def _family(name: str, marks: str, *tokens: str) -> Family:
    return Family(name, re.compile(marks), frozenset(tokens))


FAMILIES = (
    _family("ChatML", r"<\|im_start\|> ?\w+", "<|im_start|>", "<|im_end|>"),
    _family(
        "Llama 3",
        r"<\|start_header_id\|> ?\w+ ?<\|end_header_id\|>",
        *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>"),
    ),
    _family(
        "Llama 4",
        r"<\|header_start\|> ?\w+ ?<\|header_end\|>",
        *("<|header_start|>", "<|header_end|>", "<|eot|>", "<|begin_of_text|>"),
    ),
    _family(
        "Llama 2 or Mistral",
        r"\[INST\][^\0]*?\[/INST\]",
        *("<s>", "</s>", "[INST]", "[/INST]"),
    ),
    _family(
        "Gemma",
        r"<start_of_turn> ?(?:user|model)",
        *("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"),
    ),
    _family(
        "Phi, Zephyr or GLM",
        r"<\|(?:user|assistant)\|>",
        *("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>", "</s>"),
    ),
    _family(
        "DeepSeek",
        r"<｜(?:User|Assistant)｜>",
        *("<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    ),
    _family(
        "Command",
        r"<\|START_OF_TURN_TOKEN\|>",
        *("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>"),
        "<|CHATBOT_TOKEN|>",
    ),
    _family(
        "Harmony (gpt-oss)",
        r"<\|start\|>\w[^<>\0]{0,80}(?:<\|channel\|>\w+)?<\|message\|>",
        *("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
    ),
    _family(
        "Granite",
        r"<\|start_of_role\|> ?\w+ ?<\|end_of_role\|>",
        *("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    ),
    _family(
        "Kimi",
        r"<\|im_(?:user|assistant)\|>",
        *("<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>"),
    ),
    _family(
        "code with a gap (fill in the middle)",
        r"<\|?(?:fim[_-])prefix\|?>|<PRE>|<｜fim▁begin｜>|\[PREFIX\]",
        *("<|fim_prefix|>", "<fim_prefix>", "<fim-prefix>", "<PRE>", "<｜fim▁begin｜>"),
        *("[PREFIX]", "<|fim_suffix|>", "<fim_suffix>", "<fim-suffix>"),
    ),
)


@dataclass(frozen=True)
class Rendered:
    """For which template a text is rendered: its family, and whether it is this tokenizer's."""

    family: str
    own: bool


def rendered_for(text: str, tokenizer: Tokenizer) -> Rendered | None:
    """Find the template that a text is rendered with; None for plain text.

    It is the tokenizer's own when its template writes such turns, or when the family's marks are
    control tokens of the tokenizer. Marks in plain words (“### Instruction:”) are plain text.
    """
    if _has_own_turns(text, tokenizer):
        return Rendered("this model's chat template", True)
    names = control_tokens(tokenizer).names
    found = None
    for family in FAMILIES:
        if family.marks.search(text):
            known = [token for token in family.tokens & names if token in text]
            if known:
                return Rendered(family.name, True)
            found = found or Rendered(family.name, False)
    return found


def _has_own_turns(text: str, tokenizer: Tokenizer) -> bool:
    template = getattr(tokenizer, "chat_template", None)
    if not isinstance(template, str | dict):
        return False
    marks = [mark for mark in _own_marks(tokenizer, repr(template)) if mark]
    place = 0
    for mark in marks:
        place = text.find(mark, place) + len(mark)
        if place < len(mark):
            return False
    names = control_tokens(tokenizer).names
    written = len(marks) == 2 or any(name in mark for name in names for mark in marks)
    return bool(marks) and written


@lru_cache(maxsize=8)
def _own_marks(tokenizer: Tokenizer, _template: str) -> tuple[str, ...]:
    """What the template writes before a question, and between a question and its answer."""
    roles = ("user", "assistant", "user", "assistant")
    messages = [{"role": role, "content": sign} for role, sign in zip(roles, _SIGNS, strict=True)]
    text = Conversation(messages, tokenizer, None, {}).try_text(len(messages))
    if not text or [sign for sign in text if sign in _SIGNS] != list(_SIGNS):
        return ()
    before, answered, asked, _, _ = re.split(f"[{_SIGNS}]", text)
    shared = 0
    while shared < min(len(before), len(asked)) and before[-1 - shared] == asked[-1 - shared]:
        shared += 1
    return before[len(before) - shared :].strip(), answered.strip()
