"""Training templates: chat templates that leave nothing of a conversation out.

Plain talk is written exactly as the model's own template writes it; calls, tools, their results and
the reasoning of every answer in the documented format of the model's family. What is learned stands
in generation markers. No conversation of a dataset is rendered here.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils.chat_template_utils import _compile_jinja_template

from trainer_backend.errors import UserError
from trainer_backend.recipe import label
from trainer_backend.tokens.templates.frame import (
    Frame,
    NoFrame,
    Turn,
    find_frame,
    plain_talks,
)
from trainer_backend.tokens.templates.needs import REFUSALS, special_words, wants_parts
from trainer_backend.tokens.templates.opened import TAGS, answer_as_asked
from trainer_backend.tokens.templates.thinking import has_thinking_switch, thinking_arguments

MARK = "{#- Training template of SFT Studio, family {} -#}\n"
FAMILIES = (  # family, and marks that its tokenizer or its own template has
    ("mistral", ("[TOOL_CALLS]", "[TOOL_RESULTS]")),
    ("deepseek", ("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>")),
    ("command_a", ("<|START_ACTION|>", "<|START_OF_TURN_TOKEN|>")),
    ("command_r", ("<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>")),
    ("granite", ("<|start_of_role|>", "<|end_of_role|>")),
    ("phi", ("<|tool_call|>", "<|assistant|>", "<|end|>")),
    ("glm_tags", ("<|observation|>", "<arg_key>")),
    ("glm", ("<|observation|>", "[gMASK]")),
    ("llama", ("<|start_header_id|>", "<|eot_id|>")),
    ("gemma", ("<start_of_turn>", "<end_of_turn>")),
)
OWN_FORMAT = ("<|channel|>", "<|constrain|>")  # gpt-oss: its own template leaves nothing out
DAY, DAY_END = "probe_day(", ")probe_day"  # around the form of a date


def use_chat_template(tokenizer: Tokenizer, choice: str, model: str = "") -> None:
    """Give the tokenizer the template of a recipe's `chat_template`: model or training.

    Raises UserError when there is no training template for this model.
    """
    if choice != "training" or is_training_template(str(tokenizer.chat_template)):
        return
    template = training_template(tokenizer)
    if template is None:
        raise UserError(
            "There is no training template for this model: its chat template writes plain talk "
            "in a way that no built-in template repeats.",
            model or str(getattr(tokenizer, "name_or_path", "")),
            f"Set “{label('chat_template')}” to the model's own template.",
            code="no_training_template",
        )
    tokenizer.chat_template = template


def is_training_template(template: str) -> bool:
    """Whether this text is one of the templates made here."""
    return template.startswith(MARK.partition("{}")[0].removesuffix("family "))


def training_template(tokenizer: Tokenizer) -> str | None:
    """A template for this tokenizer that writes everything, or None where none can be made."""
    own = tokenizer.chat_template
    if not isinstance(own, str) or not own:
        return None
    tokens = frozenset(token.content for token in tokenizer.added_tokens_decoder.values())
    return _made(own, tuple(sorted(special_words(tokenizer).items())), tokens)


def family_of(template: str, tokens: frozenset[str]) -> str:
    """The family of a model, from its tokens and the marks of its own template."""
    for family, marks in FAMILIES:
        if all(mark in tokens or mark in template for mark in marks):
            return family
    return "hermes"


@lru_cache(maxsize=8)
def _made(own: str, words: tuple[tuple[str, str], ...], tokens: frozenset[str]) -> str | None:
    if wants_parts(own) or all(mark in own for mark in OWN_FORMAT):
        return None
    try:
        frames = _frames(own, dict(words))
    except NoFrame:
        return None
    family = family_of(own, tokens)
    source = MARK.replace("{}", family) + _header(frames, own) + _file(family) + _file("body")
    return source if _writes_as(own, source, dict(words)) else None


def _file(name: str) -> str:
    text = files("trainer_backend.tokens.templates").joinpath(f"families/{name}.jinja")
    return text.read_text(encoding="utf-8").strip() + "\n"


@dataclass(frozen=True)
class _Renderer:
    """Renders a template with the special tokens and template arguments, dates by their form."""

    template: str
    words: dict[str, Any]

    def __call__(self, messages: list[dict[str, Any]], **kwargs: Any) -> str:
        compiled = _compile_jinja_template(self.template)
        given = {"tools": None, "add_generation_prompt": False, **self.words, **kwargs}
        given["strftime_now"] = lambda form: f"{DAY}{form}{DAY_END}"
        return compiled.render(messages=messages, **given)


def _frames(own: str, words: dict[str, Any]) -> dict[str, Frame]:
    """The frame for each position of the thinking switch; only "auto" without a switch."""
    positions = ("on", "off", "auto") if has_thinking_switch(own) else ("auto",)
    return {
        one: find_frame(_Renderer(own, words | thinking_arguments(one, own))) for one in positions
    }


def _header(frames: dict[str, Frame], own: str) -> str:
    """The frame as names for the family and the body, by the thinking switch if there is one."""
    sets = {position: _sets(frame) for position, frame in frames.items()}
    auto = sets.pop("auto")
    if not sets:
        return auto
    parts: list[str] = []
    for position, names in sets.items():
        tests = [f"{name} == {_literal(value)}" for name, value in _switch(position, own)]
        parts.append(f"{'if' if not parts else 'elif'} {' and '.join(tests)}|{names}")
    blocks = "".join("{%- " + part.replace("|", " -%}\n", 1) for part in parts)
    return f"{blocks}{{%- else -%}}\n{auto}{{%- endif -%}}\n"


def _switch(position: str, own: str) -> list[tuple[str, Any]]:
    return list(thinking_arguments(position, own).items())


def _sets(frame: Frame) -> str:
    names: dict[str, Any] = {
        "head": frame.head,
        "has_system": frame.system is not None,
        "system_start": (frame.system or ("", ""))[0],
        "system_end": (frame.system or ("", ""))[1],
        "merged": frame.merged,
        "system_last": frame.at_last,
        "has_later": frame.later is not None,
        "later_start": (frame.later or ("", ""))[0],
        "later_end": (frame.later or ("", ""))[1],
        "default_system": frame.default,
        "user_start": frame.user[0],
        "user_end": frame.user[1],
        "rest": frame.last.rest,
    }
    for which, turn in (("earlier", frame.earlier), ("last", frame.last)):
        names |= _turn_names(which, turn)
    opened, closed = _tags(frame)
    names |= {"think_open": opened, "think_close": closed}
    sets = "".join(f"{{%- set {name} = {_literal(value)} -%}}\n" for name, value in names.items())
    trims = zip(("system", "user", "answer"), frame.trims, strict=True)
    return sets + "".join(
        f"{{%- macro trim_{who}(text) -%}}{{{{- {how.format('text')} -}}}}{{%- endmacro -%}}\n"
        for who, how in trims
    )


def _turn_names(which: str, turn: Turn) -> dict[str, str]:
    return {
        f"stem_{which}": turn.stem,
        f"lead_{which}": turn.lead,
        f"end_{which}": turn.end,
        f"tail_{which}": turn.tail,
    }


def _tags(frame: Frame) -> tuple[str, str]:
    """The marks around a thought: those that the template writes, <think> if it writes none."""
    written = frame.last.rest + frame.last.lead + frame.last.stem
    return next((pair for pair in TAGS.items() if pair[0] in written), ("<think>", "</think>"))


def _literal(value: Any) -> str:
    """A value as a Jinja literal; the form of a date becomes a call."""
    if not isinstance(value, str):
        return json.dumps(value)
    parts = value.split(DAY)
    texts = [json.dumps(parts[0], ensure_ascii=False)]
    for part in parts[1:]:
        form, _, after = part.partition(DAY_END)
        texts += [f"strftime_now({json.dumps(form)})", json.dumps(after, ensure_ascii=False)]
    return " ~ ".join(texts)


def _writes_as(own: str, made: str, words: dict[str, Any]) -> bool:
    """Whether plain talk and its prompts come out of both templates alike."""
    for position in ("auto", "on", "off") if has_thinking_switch(own) else ("auto",):
        given = words | thinking_arguments(position, own)
        first, second = _Renderer(own, given), _Renderer(made, given)
        for messages in plain_talks():
            if not _alike(first, second, messages):
                return False
    return True


def _alike(own: _Renderer, made: _Renderer, messages: list[dict[str, Any]]) -> bool:
    try:
        text, prompt = own(messages), own(messages[:-1], add_generation_prompt=True)
    except REFUSALS:
        return True  # the original refuses it: there is nothing to compare with
    rest = _opened(own)
    if rest:
        text = answer_as_asked(text, prompt, rest, "") or text
    same = made(messages) == text
    return same and made(messages[:-1], add_generation_prompt=True) == prompt


def _opened(own: _Renderer) -> str:
    """The end of the generation prompt that a finished answer lacks."""
    return find_frame(own).last.rest
