"""Prompts as in training: messages with their pictures, tools and thinking switch.

Chat and evaluation build their prompts here. Nothing is generated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.models.loaded.answer_parts import (
    Answer,
    leaves_thought_open,
    read_answer,
    tool_names,
)
from trainer_backend.models.loaded.pretrained import tokenizer_of
from trainer_backend.tokens.chat_template import template_of
from trainer_backend.tokens.encode import prompt_ids
from trainer_backend.tokens.stopping import special_words
from trainer_backend.tokens.templates.thinking import thinking_arguments
from trainer_backend.tokens.vision import open_image, prompt_text

TAIL = 40  # tokens of a prompt in which a thought may be opened
Processing = PreTrainedTokenizerBase | ProcessorMixin


@dataclass(frozen=True)
class AskedWith:
    """What messages are asked with; `thinking` and `control_tokens` are the recipe's settings."""

    tools: Sequence[Any] = ()
    thinking: str = "auto"
    control_tokens: str = "auto"
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """The tools and arguments for the chat template of this tokenizer."""
        tools = list(self.tools) or None
        switch = thinking_arguments(self.thinking, template_of(tokenizer, tools))
        own = {"tools": tools, "control_tokens": self.control_tokens}
        return {**own, **switch, **self.template_kwargs}


@dataclass(frozen=True)
class Prompt:
    """A prompt as token ids, or as text with pictures for a processor."""

    tokenizer: PreTrainedTokenizerBase
    names: Sequence[str]  # of the tools
    ids: list[int] = field(default_factory=list)
    text: str = ""
    images: list[Any] = field(default_factory=list)

    def read(self, text: str, growing: bool = False) -> Answer:
        """What a model wrote after this prompt, taken apart; `growing`: it still writes."""
        end = self.text[-8 * TAIL :] or str(self.tokenizer.decode(self.ids[-TAIL:]))
        names, controls = self.names, special_words(self.tokenizer)
        return read_answer(text, names, controls, leaves_thought_open(end), growing)


def build_prompt(
    messages: list[dict], processing: Processing, asked: AskedWith, images: Sequence[Any] = ()
) -> Prompt:
    """The prompt that training would have put before the answer.

    Raises TrainingDataError when the chat template refuses it or an image cannot be read.
    """
    tokenizer = tokenizer_of(processing)
    arguments, names = asked.arguments(tokenizer), tool_names(asked.tools)
    if not images:
        return Prompt(tokenizer, names, prompt_ids(messages, tokenizer, **arguments))
    assert isinstance(processing, ProcessorMixin)  # pictures need a vision model
    text = prompt_text(messages, len(images), processing, **arguments)
    return Prompt(tokenizer, names, [], text, [open_image(image) for image in images])


def without_pictures(messages: list[dict]) -> tuple[list[dict], list[Any]]:
    """Messages with a mark for each of their `images`, and the images of all, in order."""
    plain: list[dict] = []
    found: list[Any] = []
    for message in messages:
        own = message.get("images") or []
        rest = {key: value for key, value in message.items() if key != "images"}
        if own and IMAGE_MARK not in str(rest.get("content")):
            rest["content"] = IMAGE_MARK * len(own) + str(rest.get("content") or "")
        plain.append(rest)
        found += own
    return plain, found
