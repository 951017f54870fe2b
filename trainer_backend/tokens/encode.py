"""THE place where text becomes tokens and labels: for training, preview and chat prompts.

How messages become text is render.py, where the assistant's words are is assistant_mask.py,
and the tokenizer is called in tokens.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jinja2.exceptions import TemplateError

from trainer_backend.data.formats import is_trained
from trainer_backend.data.json_values import drop_nones, has_half_character, parse_json_column
from trainer_backend.errors import RowError, TrainingDataError
from trainer_backend.tokens.assistant_mask import Conversation, assistant_spans, learn_turn_shape
from trainer_backend.tokens.chat_template import (
    clean_messages,
    has_generation_markers,
    render_prompt,
    template_of,
)
from trainer_backend.tokens.tokenise import IGNORED, Plan, tokenise


def plan_ids(example: Mapping, completion_only: bool) -> Plan:
    """Check ids and labels; without labels all ids are learned that no mask takes away.

    Raises TrainingDataError for what is no list of token ids, or lists of different lengths.
    """
    given = example.get("labels") is not None
    ids = _int_array(example, "input_ids")
    labels = _int_array(example, "labels") if given else ids.copy()
    if not given:
        masks = []
        if completion_only and example.get("completion_mask") is not None:
            masks.append(example["completion_mask"])
        if example.get("assistant_masks") is not None:
            masks.append(example["assistant_masks"])
        for mask in masks:
            _check_length(ids, mask, "the mask")
            labels[~np.asarray(mask, dtype=bool)] = IGNORED
    _check_length(ids, labels, "labels")
    return Plan(ids=ids, labels=labels)


def _check_length(ids, other, name: str) -> None:
    if len(other) != len(ids):
        raise TrainingDataError(
            f"input_ids has {len(ids)} tokens and {name} has {len(other)}.",
            "columns input_ids, labels",
            "Make them equal.",
        )


def _int_array(example: Mapping, column: str) -> np.ndarray:
    try:
        found = np.array(example[column])
    except ValueError:  # lists of different lengths
        found = np.zeros((0, 0))
    ids = found.astype(np.int32) if found.ndim == 1 and found.dtype.kind in "iu" else None
    if ids is None and found.shape == (0,):
        return np.zeros(0, np.int32)
    if ids is None or not np.array_equal(ids, found):
        raise TrainingDataError(
            f"“{column}” is not a list of token ids.",
            f"column “{column}”",
            "Give whole numbers, or text for the tokenizer.",
        )
    return ids


@dataclass(frozen=True)
class Encoding:
    """One example as tokens; `length` counts the tokens before cutting."""

    input_ids: list[int]
    labels: list[int]
    length: int

    @property
    def num_learned(self) -> int:
        """Positions that teach something: the first token of a row is never predicted."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class EncodeOptions:
    """How examples are cut and masked (the same names as in SFTConfig)."""

    max_length: int | None = None
    truncation_mode: str = "keep_start"
    assistant_only_loss: bool = False
    completion_only_loss: bool | None = None  # None: yes for prompt and completion
    last_turn_only: bool = False  # of the assistant's messages only the last one counts


def encode(example: Mapping, tokenizer, **options) -> Encoding:
    """Turn one example into token ids and labels; options are the fields of EncodeOptions."""
    return encode_batch([example], tokenizer, **options)[0]


def encode_batch(examples: Sequence[Mapping], tokenizer, **options) -> list[Encoding]:
    """Turn examples into token ids and labels, the same as one by one but faster."""
    return [
        Encoding(row.input_ids.tolist(), row.labels.tolist(), row.length)
        for row in encode_arrays(examples, tokenizer, **options)
    ]


def encode_arrays(examples: Sequence[Mapping], tokenizer, **options) -> list[Encoding]:
    """The same with ids and labels as int32 arrays, for whole datasets."""
    chosen = EncodeOptions(**options)
    shapes: dict = {}
    plans = [
        _numbered(number, _plan, example, tokenizer, chosen, shapes)
        for number, example in enumerate(examples)
    ]
    try:
        tokenise(plans, tokenizer)
    except (TypeError, UnicodeEncodeError):  # what tokenizers say of half a character
        for number, plan in enumerate(plans):
            _numbered(number, _check_characters, plan)
        raise
    return [_cut(plan, chosen) for plan in plans]


def _numbered(number: int, function, *args):
    """Call, and let an error about an example say which one of the batch it was."""
    try:
        return function(*args)
    except (TemplateError, TypeError) as error:  # a template of text given a list of parts
        failure = TrainingDataError(
            f"The chat template refuses this conversation: {error}",
            "this row's messages",
            "Change the order or roles of its messages, or use a model with another template.",
        )
        failure.index = number
        raise failure from error
    except RowError as error:
        failure = TrainingDataError(error.what, "this row's messages", error.fix)
        failure.index = number
        raise failure from error
    except TrainingDataError as error:
        error.index = number
        raise


def _check_characters(plan: Plan) -> None:
    if has_half_character(plan.text):
        raise TrainingDataError(
            "A text holds half a character (a lone surrogate).",
            "a text of this row",
            "Write the whole character, or leave it out.",
        )


def prompt_ids(messages, tokenizer, *, tools=None, **template_kwargs) -> list[int]:
    """Token ids of a chat prompt: the same as the context part of encode() for these messages."""
    text = render_prompt(messages, tokenizer, tools=tools, **template_kwargs)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def text_plan(example: Mapping, tokenizer, options: EncodeOptions) -> Plan:
    """One example before it becomes tokens: its text and what of it is learned.

    For a vision model, whose processor makes the tokens.
    """
    return _numbered(0, _plan, example, tokenizer, options, {})


def _plan(example: Mapping, tokenizer, options: EncodeOptions, shapes: dict) -> Plan:
    if example.get("input_ids") is not None:
        return plan_ids(example, options.completion_only_loss is not False)
    if example.get("messages") is not None:
        return _plan_chat([], example["messages"], example, tokenizer, options, shapes)
    if "completion" in example:
        return _plan_pair(example, tokenizer, options, shapes)
    if options.assistant_only_loss:
        raise TrainingDataError(
            "assistant_only_loss=True needs conversations, and this row is plain text.",
            "assistant_only_loss",
            "Give a messages column, or switch assistant_only_loss off.",
        )
    return Plan(text=_with_eos(example["text"], tokenizer), special_tokens=True)


def _plan_pair(example: Mapping, tokenizer, options: EncodeOptions, shapes: dict) -> Plan:
    prompt, completion = example["prompt"], example["completion"]
    if not isinstance(prompt, str):
        return _plan_chat(prompt, completion, example, tokenizer, options, shapes)
    if options.assistant_only_loss:
        return _plan({"text": ""}, tokenizer, options, shapes)
    text = _with_eos(prompt + completion, tokenizer)
    masked = options.completion_only_loss is not False
    return Plan(text=text, prompt=prompt if masked else None, special_tokens=True)


def _plan_chat(
    prompt, rest, example: Mapping, tokenizer, options: EncodeOptions, shapes: dict
) -> Plan:
    raw = [*_as_list(prompt), *_as_list(rest)]
    tools = _carried(example, "tools", list | tuple)
    if not all(isinstance(tool, Mapping) or callable(tool) for tool in tools or ()):
        raise _not_carried("tools", tools)
    kwargs = _carried(example, "chat_template_kwargs", Mapping) or {}
    conversation = Conversation(clean_messages(raw), tokenizer, tools, kwargs)
    if not conversation.messages:
        raise TrainingDataError(
            "A row has no messages.", "column “messages”", "Remove the row or fill it in."
        )
    plan = Plan()
    chosen = _chosen_turns(raw, options)
    if options.assistant_only_loss or chosen is not None:
        plan.text, spans = assistant_spans(conversation, _shape_for(conversation, shapes))
        plan.spans = [
            (start, end) for i, start, end in spans if chosen is None or i in chosen or i < 0
        ]
        if not spans:
            raise TrainingDataError(
                "This conversation has no message by the assistant: it teaches nothing.",
                "assistant_only_loss",
                "Add the assistant's reply, or switch assistant_only_loss off.",
            )
    else:
        plan.text = conversation.text()
    if prompt and options.completion_only_loss is not False:
        plan.prompt = conversation.text(len(raw) - len(_as_list(rest)), prompt=True)
    return plan


def _carried(example: Mapping, column: str, kind):
    """What a row brings for the template, JSON text or not; None if that is nothing."""
    value = drop_nones(parse_json_column(example.get(column), column)) or None
    if not isinstance(value, kind | None):
        raise _not_carried(column, value)
    return value


def _not_carried(column: str, value) -> TrainingDataError:
    expected = "a list of objects" if column == "tools" else "an object with the template's names"
    return TrainingDataError(
        f"“{column}” holds {value!r:.60}.", f"column “{column}”", f"Write it as {expected}."
    )


def _as_list(messages) -> list:
    return parse_json_column(messages, "messages") or []


def _chosen_turns(raw: list, options: EncodeOptions) -> set[int] | None:
    """Indices of the assistant messages that count, or None when all messages do."""
    kept = [is_trained(message) for message in raw]
    if not options.last_turn_only and all(kept):
        return None
    turns = [i for i, message in enumerate(raw) if message.get("role") == "assistant"]
    return {i for i in (turns[-1:] if options.last_turn_only else turns) if kept[i]}


def _shape_for(conversation: Conversation, shapes: dict):
    key = (bool(conversation.tools), repr(conversation.template_kwargs))
    if key not in shapes:
        marked = has_generation_markers(template_of(conversation.tokenizer, conversation.tools))
        shapes[key] = (
            None
            if marked
            else learn_turn_shape(
                conversation.tokenizer, conversation.tools, conversation.template_kwargs
            )
        )
    return shapes[key]


def _with_eos(text: str, tokenizer) -> str:
    eos = tokenizer.eos_token
    return text if not eos or text.endswith(eos) else text + eos


def _cut(plan: Plan, options: EncodeOptions) -> Encoding:
    ids, labels, limit = plan.ids, plan.labels, options.max_length
    length = len(ids)
    if limit is not None and length > limit:
        kept = slice(-limit, None) if options.truncation_mode == "keep_end" else slice(limit)
        ids, labels = ids[kept], labels[kept]
    return Encoding(ids, labels, length)
