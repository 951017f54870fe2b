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

from trainer_backend.tokens.templates.frame import (
    SYSTEM,
    Frame,
    NoFrame,
    Turn,
    as_parts,
    find_frame,
    plain_talks,
)
from trainer_backend.tokens.templates.needs import REFUSALS, special_words, wants_parts
from trainer_backend.tokens.templates.opened import TAGS, answer_as_asked
from trainer_backend.tokens.templates.thinking import has_thinking_switch, thinking_arguments

MARK = "{#- Training template of SFT Studio, family {} -#}\n"
FAMILIES = (  # family, a mark of its own template, and one that its tokens or template have too
    ("mistral", "[INST]", "[TOOL_CALLS]"),
    ("deepseek", "<｜User｜>", "<｜tool▁calls▁begin｜>"),
    ("command_a", "<|START_OF_TURN_TOKEN|>", "<|START_ACTION|>"),
    ("command_r", "<|START_OF_TURN_TOKEN|>", ""),
    ("granite", "<|start_of_role|>", ""),
    ("glm_tags", "<|observation|>", "<arg_key>"),
    ("glm", "[gMASK]", "<|observation|>"),
    ("llama", "<|start_header_id|>", ""),
    ("gemma", "<start_of_turn>", ""),
    ("nemotron", "<extra_id_1>", ""),
    ("lfm", "<|im_start|>", "<|tool_list_start|>"),
    ("qwen_xml", "<function=", ""),
    ("phi", "<|end|>", "<|tool_call|>"),
)
# gpt-oss and Gemma 4 write calls and thoughts in ways of their own, and leave little out
OWN_FORMAT = ("<|channel|>", "<|turn>")
DAY, DAY_END = "probe_day(", ")probe_day"  # around the form of a date


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
    for family, turn, other in FAMILIES:
        if turn in template and (other in template or other in tokens):
            return family
    return "hermes"


@lru_cache(maxsize=8)
def _made(own: str, words: tuple[tuple[str, str], ...], tokens: frozenset[str]) -> str | None:
    if any(mark in own for mark in OWN_FORMAT):
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
        if wants_parts(self.template):
            messages = [one | {"content": as_parts(one["content"])} for one in messages]
        return compiled.render(messages=messages, **given)


def _frames(own: str, words: dict[str, Any]) -> dict[str, Frame]:
    """The frame for each position of the thinking switch; only "auto" without a switch."""
    positions = ("on", "off", "auto") if has_thinking_switch(own) else ("auto",)
    return {
        one: find_frame(_Renderer(own, words | thinking_arguments(one, own))) for one in positions
    }


def _header(frames: dict[str, Frame], own: str) -> str:
    """The frame as names for the family and the body, by the thinking switch if there is one."""
    sets = {position: _sets(frame, own) for position, frame in frames.items()}
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


def _sets(frame: Frame, own: str) -> str:
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
        "image": frame.image,
    }
    for which, turn in (("earlier", frame.earlier), ("last", frame.last)):
        names |= _turn_names(which, turn)
    stem, start, end = _thought(frame, own)
    opened, closed = _tags(stem + start)
    names |= {"think_open": opened, "think_close": closed}
    names |= {"thought_stem": stem, "thought_start": start, "thought_end": end}
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


def _thought(frame: Frame, own: str) -> tuple[str, str, str]:
    """How reasoning is written: with the family's tokens for it where its template names some."""
    stem, start, end = frame.thought
    tokens = next((one for one in TAGS if one.startswith(("<|", "[")) and one in own), "")
    return (stem, tokens, TAGS[tokens]) if tokens and start == "<think>\n" else frame.thought


def _tags(written: str) -> tuple[str, str]:
    """The marks around a thought in what stands before it; <think> if there is none."""
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
        for messages in plain_talks(image=bool(find_frame(first).image)):
            if not _alike(first, second, messages):
                return False
    return True


def _alike(own: _Renderer, made: _Renderer, messages: list[dict[str, Any]]) -> bool:
    try:
        text, prompt = own(messages), own(messages[:-1], add_generation_prompt=True)
    except REFUSALS:
        return True  # the original refuses it: there is nothing to compare with
    if any(isinstance(one["content"], str) and SYSTEM in one["content"] for one in messages):
        if SYSTEM not in text:
            return True  # the original leaves system text out
    rest = _opened(own)
    if rest:
        text = answer_as_asked(text, prompt, rest, "") or text
    same = made(messages) == text
    return same and made(messages[:-1], add_generation_prompt=True) == prompt


def _opened(own: _Renderer) -> str:
    """The end of the generation prompt that a finished answer lacks."""
    return find_frame(own).last.rest
