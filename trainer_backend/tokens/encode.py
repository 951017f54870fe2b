"""The one place where messages become token ids and labels: for training, preview and chat prompts.

Every label is the id at its position, or -100 where nothing is trained; the loss shifts them. No
dataset, file or tensor is handled here.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.data.checks.changes import SYSTEM_MOVED, THOUGHT_OPENED
from trainer_backend.data.formats import is_trained, slim_tools
from trainer_backend.data.json_values import drop_nones, has_half_character, parse_json_column
from trainer_backend.errors import RowError, TrainingDataError
from trainer_backend.tokens.assistant_mask import (
    Conversation,
    Span,
    TurnShape,
    assistant_spans,
    learn_turn_shape,
    turns_to_learn,
)
from trainer_backend.tokens.chat_template import (
    arranged,
    carried,
    clean_messages,
    is_plain,
    not_carried,
    render_prompt,
    suited,
    template_arguments,
    template_of,
    unwritten_turns,
)
from trainer_backend.tokens.control.conversations import Broken, break_spellings, rows_spelling
from trainer_backend.tokens.control.plain_texts import end_text, with_end
from trainer_backend.tokens.control.spelling import control_tokens
from trainer_backend.tokens.ledger import (
    Rendered,
    learned_from,
    ledger_of,
    refuse_empty_answers,
)
from trainer_backend.tokens.stopping import Ending, ending_of, with_learned_end
from trainer_backend.tokens.templates.opened import answer_as_asked, opens_thought, reasoning_of
from trainer_backend.tokens.templates.refusal import refusal
from trainer_backend.tokens.tokenise import IGNORED, Plan, given_ids, tokenise

T = TypeVar("T")
# of one batch: shapes by tools and template arguments, how answers end, and special tokens by name
Shapes = dict[Hashable, TurnShape | Ending | dict]


class ExampleError(TrainingDataError):
    """A TrainingDataError that knows its example's position in the batch (`index`, from 0)."""

    def __init__(self, index: int, what: str, where: str, fix: str):
        super().__init__(what, where, fix)
        self.index = index


@dataclass(frozen=True)
class Encoding:
    """One example as token ids and labels of equal length; `length` is that before truncation."""

    input_ids: list[int]
    labels: list[int]
    length: int
    ledger: int = 0  # what the chat template made of each kind of content, as flags

    @property
    def num_learned(self) -> int:
        """Number of trained positions; the first token of a row is never predicted."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class TokenArrays:
    """The same as int32 arrays of shape [tokens]; `ledger` flags what became of the content."""

    input_ids: np.ndarray
    labels: np.ndarray
    length: int
    ledger: int = 0


@dataclass(frozen=True)
class EncodeOptions:
    """How examples are truncated and masked (the same names as in SFTConfig)."""

    max_length: int | None = None  # in tokens; None: no truncation
    truncation_mode: str = "keep_start"  # or "keep_end"
    assistant_only_loss: bool = False
    completion_only_loss: bool | None = None  # None: where there are a prompt and a completion
    last_turn_only: bool = False  # train the assistant's last message only
    control_tokens: str = "auto"  # how text that spells one is read; or "text" or "tokens"
    lost_content: str = "ask"  # raise where a call would leave an empty answer; else skip it
    eos_token: str | None = None  # ends the last answer where the template writes no end
    thinking: str = "auto"  # the template's thinking switch: auto (as it is), on or off
    template_date: str | None = None  # ISO date written as today's; None: today
    as_written: bool = False  # no text is moved or added: as earlier versions rendered


def encode(example: Mapping, tokenizer: Tokenizer, **options: Any) -> Encoding:
    """Turn one example into token ids and labels; `options` are the fields of EncodeOptions.

    An example is {"messages", "tools"?, "chat_template_kwargs"?}, {"prompt", "completion"} (text or
    messages), {"text"} or {"input_ids", "labels"?}. Raises TrainingDataError when it is none of
    these, the chat template rejects it, or the options do not fit it.

        encode({"prompt": "2+2=", "completion": "4"}, tokenizer)
        # input_ids [17, 10, 17, 28, 19, 0], labels [-100, -100, -100, -100, 19, 0], length 6
    """
    return encode_batch([example], tokenizer, **options)[0]


def encode_batch(
    examples: Sequence[Mapping], tokenizer: Tokenizer, **options: Any
) -> list[Encoding]:
    """encode() for several examples: the same result, faster.

    Raises ExampleError, a TrainingDataError with the position of the example, in `index`.
    """
    return [
        Encoding(row.input_ids.tolist(), row.labels.tolist(), row.length, row.ledger)
        for row in encode_arrays(examples, tokenizer, **options)
    ]


def encode_arrays(
    examples: Sequence[Mapping], tokenizer: Tokenizer, **options: Any
) -> list[TokenArrays]:
    """encode_batch() without the conversion to lists, for whole datasets."""
    chosen = EncodeOptions(**options)
    shapes: Shapes = {"special": dict(tokenizer.special_tokens_map)}
    spelling = _spelling(examples, tokenizer, chosen)
    plans = [
        _numbered(number, _plan, example, tokenizer, chosen, shapes, number in spelling)
        for number, example in enumerate(examples)
    ]
    try:
        tokenise(plans, tokenizer)
    except (TypeError, UnicodeEncodeError):  # raised by tokenizers for a lone surrogate
        for number, plan in enumerate(plans):
            _numbered(number, _check_characters, plan)
        raise
    except TrainingDataError as error:  # texts that spell control tokens cannot be encoded as text
        number = next(at for at, plan in enumerate(plans) if plan.controls is not None)
        raise ExampleError(number, error.what, error.where, error.fix) from error
    return [_cut(plan, chosen) for plan in plans]


def _spelling(
    examples: Sequence[Mapping], tokenizer: Tokenizer, options: EncodeOptions
) -> set[int]:
    """Positions of the examples whose texts spell control tokens, where these are not wanted."""
    if options.control_tokens == "tokens":
        return set()
    return rows_spelling(examples, control_tokens(tokenizer))


def _numbered(number: int, function: Callable[..., T], *args: Any) -> T:
    """Call `function`; an error about the example becomes an ExampleError with its number."""
    try:
        return function(*args)
    except (TemplateError, TypeError) as error:  # TypeError: content is a list, text was expected
        what, fix = refusal(error)
        raise ExampleError(number, what, "this row's messages", fix) from error
    except RowError as error:
        raise ExampleError(number, error.what, "this row's messages", error.fix) from error
    except TrainingDataError as error:
        raise ExampleError(number, error.what, error.where, error.fix) from error


def _check_characters(plan: Plan) -> None:
    if has_half_character(plan.text):
        raise TrainingDataError(
            "A text contains half a character (a lone surrogate).",
            "a text of this row",
            "Write the whole character, or remove it.",
        )


def prompt_ids(
    messages: Sequence[Mapping] | str,
    tokenizer: Tokenizer,
    *,
    tools: Sequence | str | None = None,
    control_tokens: str = "auto",
    **template_kwargs: Any,
) -> list[int]:
    """Token ids of a chat prompt, generation prompt included: what encode() makes the prompt part.

    `messages` and `tools` may be JSON text. With `control_tokens` "tokens", texts that spell a
    control token make one. Raises TrainingDataError without a chat template.
    """
    row = {"messages": messages, "tools": tools, "chat_template_kwargs": template_kwargs}
    if _spelling([row], tokenizer, EncodeOptions(control_tokens=control_tokens)):
        asked = prompt_conversation(messages, tokenizer, tools=tools, **template_kwargs)
        broken = break_spellings(asked, prompt=True)
        if broken is not None:
            plan = Plan(text=broken.conversation.text(prompt=True))
            _mend(plan, broken)
            tokenise([plan], tokenizer)
            return np.asarray(plan.ids).tolist()
    text = render_prompt(messages, tokenizer, tools=tools, **template_kwargs)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def prompt_conversation(
    messages: Sequence[Mapping] | str,
    tokenizer: Tokenizer,
    *,
    tools: Sequence | str | None = None,
    **template_kwargs: Any,
) -> Conversation:
    """The conversation of a chat prompt, in the form that the template renders."""
    given: Any = parse_json_column(tools, "tools")
    asked, _ = arranged(_as_list(messages), given, tokenizer)
    cleaned, given = suited(clean_messages(asked), given, tokenizer)
    return Conversation(cleaned, tokenizer, given, template_kwargs)


def text_plan(example: Mapping, tokenizer: Tokenizer, options: EncodeOptions) -> Plan:
    """An example's rendered text and trained spans, untokenised: a vision processor does the rest.

    Raises TrainingDataError as encode() does.
    """
    return _numbered(0, _plan, example, tokenizer, options, {}, False)


def _plan(
    example: Mapping, tokenizer: Tokenizer, options: EncodeOptions, shapes: Shapes, spelled: bool
) -> Plan:
    """`spelled`: its texts may spell control tokens, which is to be looked into."""
    if example.get("input_ids") is not None:
        ids, labels = given_ids(example, options.completion_only_loss is not False)
        return Plan(ids=ids, labels=labels)
    if example.get("messages") is not None:
        return _plan_chat([], example["messages"], example, tokenizer, options, shapes, spelled)
    if "completion" in example and not isinstance(example["prompt"], str):
        sides = example["prompt"], example["completion"]
        return _plan_chat(*sides, example, tokenizer, options, shapes, spelled)
    if options.assistant_only_loss:
        raise TrainingDataError(
            "assistant_only_loss=True needs conversations, and this row is plain text.",
            "assistant_only_loss",
            "Give a messages column, or switch assistant_only_loss off.",
        )
    prompt = example["prompt"] if "completion" in example else None
    text = example["text"] if prompt is None else prompt + example["completion"]
    prompt = None if options.completion_only_loss is False else prompt
    if not spelled:
        return Plan(text=with_end(text, tokenizer), prompt=prompt, special_tokens=True)
    ended = end_text(text, tokenizer, options.control_tokens)
    return Plan(
        text=ended.text,
        prompt=prompt,
        special_tokens=True,
        controls=ended.controls(),
        prompt_controls=ended.context_controls() if len(prompt or "") >= ended.begins else [],
        ledger=ended.flags,
    )


def _mend(plan: Plan, broken: Broken) -> None:
    """Put the spellings together again that were broken while a plan's texts were rendered."""
    plan.ledger |= broken.flags
    if not broken.letters:
        return
    plan.controls, plan.text = broken.places(plan.text), broken.mend(plan.text)
    if plan.prompt is not None:
        plan.prompt_controls = broken.places(plan.prompt)
        plan.prompt = broken.mend(plan.prompt)


def _plan_chat(
    prompt: Sequence[Mapping] | str,
    rest: Sequence[Mapping] | str,
    example: Mapping,
    tokenizer: Tokenizer,
    options: EncodeOptions,
    shapes: Shapes,
    spelled: bool,
) -> Plan:
    raw: list[Mapping] = [*_as_list(prompt), *_as_list(rest)]
    tools = slim_tools(carried(example, "tools", list | tuple))
    if not all(isinstance(tool, Mapping) or callable(tool) for tool in tools or ()):
        raise not_carried("tools", tools)
    plan, turns = Plan(), None
    context = len(_as_list(prompt))
    plain = is_plain(raw)
    if not (plain or options.as_written):
        raw, context, plan.ledger = _arranged(raw, context, tools, tokenizer)
    messages = cast(list[dict], raw) if plain and raw else _cleaned(raw)
    conversation = _conversation(messages, tools, example, tokenizer, options, shapes)
    broken = break_spellings(conversation) if spelled else None
    conversation = broken.conversation if broken else conversation
    chosen, bare = _chosen_turns(raw, options), set[int]()
    if not (plain or options.as_written):
        bare = unwritten_turns(conversation.messages, tools, tokenizer)
        chosen = _turns_of(raw) if bare and prompt and chosen is None else chosen
    shape = _shape_for(conversation, shapes)
    if options.assistant_only_loss or chosen is not None:
        plan.text, spans = assistant_spans(conversation, shape)
        if not spans:
            raise TrainingDataError(
                "This conversation has no assistant message: there is nothing to train.",
                "assistant_only_loss",
                "Add the assistant's reply, or switch assistant_only_loss off.",
            )
        spans = _open_thought(plan, spans, conversation, shape, options)
        turns = turns_to_learn(conversation, plan.text, spans, chosen, bare)
        plan.spans = [(start, end) for _, start, end in turns]
    else:
        plan.text = conversation.text()
        _open_thought(plan, [], conversation, shape, options)
    _learn_end(plan, conversation, options, shapes)
    if prompt and options.completion_only_loss is not False:
        plan.prompt = conversation.text(context, prompt=True)
    learned = learned_from(plan.prompt, plan.text, context)
    plan.ledger |= ledger_of(Rendered(conversation, plan.text, turns, *learned))
    if broken:
        _mend(plan, broken)
    if options.lost_content == "ask":
        refuse_empty_answers(plan.ledger)
    return plan


def _learn_end(
    plan: Plan, conversation: Conversation, options: EncodeOptions, shapes: Shapes
) -> None:
    """Let the text and its trained spans hold what ends an answer, as far as it can be learned."""
    ending = Ending() if options.as_written else shapes.get(Ending)
    if not isinstance(ending, Ending):
        ending = shapes[Ending] = ending_of(conversation.tokenizer)
    if not (ending.after_answer or ending.after_call or options.eos_token):
        return
    last = conversation.messages[-1]
    if last.get("role") == "assistant":
        spans = [(0, len(plan.text))] if plan.spans is None else plan.spans
        end, is_call = options.eos_token or "", bool(last.get("tool_calls"))
        text, longer = with_learned_end(plan.text, spans, ending, is_call, end)
        plan.text, plan.spans = text, None if plan.spans is None else longer


def _arranged(
    raw: list[Mapping], context: int, tools: list | None, tokenizer: Tokenizer
) -> tuple[list[Mapping], int, int]:
    """The messages as arranged() gives them, how many are the prompt's, and the row's flags."""
    messages, moved = arranged(raw, tools, tokenizer)
    if moved:
        context = len(arranged(raw[:context], tools, tokenizer)[0])
    return messages, context, SYSTEM_MOVED if moved else 0


def _cleaned(raw: Sequence[Mapping]) -> list[dict]:
    if not raw:
        raise TrainingDataError(
            "A row has no messages.", "column “messages”", "Remove the row or fill it in."
        )
    return clean_messages(raw)


def _conversation(
    messages: list[dict],
    tools: list | None,
    example: Mapping,
    tokenizer: Tokenizer,
    options: EncodeOptions,
    shapes: Shapes,
) -> Conversation:
    if tools or not is_plain(messages):
        messages, tools = suited(messages, tools, tokenizer)
    own = carried(example, "chat_template_kwargs", Mapping)
    kwargs = drop_nones(own) if own else {}
    if options.thinking != "auto" or options.template_date:  # a row's own arguments come first
        template = template_of(tokenizer, tools)
        kwargs = {
            **template_arguments(template, options.thinking, options.template_date),
            **kwargs,
        }
    special = shapes.get("special")
    return Conversation(
        messages, tokenizer, tools, kwargs, special if isinstance(special, dict) else None
    )


def _open_thought(
    plan: Plan,
    spans: list[Span],
    conversation: Conversation,
    shape: TurnShape,
    options: EncodeOptions,
) -> list[Span]:
    """Let the last answer follow the thought that the generation prompt opens, if it opens one.

    Changes `plan.text` and returns the spans in it: the last one begins after the prompt.
    """
    rest, last = shape.opening[len(shape.stem) :], conversation.messages[-1]
    if not rest or options.as_written or not opens_thought(rest) or last.get("role") != "assistant":
        return spans
    prompt = conversation.text(len(conversation.messages) - 1, prompt=True)
    text = answer_as_asked(plan.text, prompt, rest, reasoning_of(last))
    if text is None:
        return spans
    plan.ledger |= THOUGHT_OPENED
    gained, plan.text = len(text) - len(plan.text), text
    return [*spans[:-1], *((i, len(prompt), end + gained) for i, _, end in spans[-1:])]


def _as_list(messages: Sequence[Mapping] | str) -> list[dict]:
    return parse_json_column(messages, "messages") or []


def _chosen_turns(raw: list, options: EncodeOptions) -> set[int] | None:
    """Indices of the assistant messages to train; None when no message is excluded."""
    kept = [is_trained(message) for message in raw]
    if not options.last_turn_only and all(kept):
        return None
    last = max(_turns_of(raw), default=-1) if options.last_turn_only else None
    return {i for i in _turns_of(raw) if kept[i] and last in (None, i)}


def _turns_of(raw: Sequence[Mapping]) -> set[int]:
    return {i for i, message in enumerate(raw) if message.get("role") == "assistant"}


def _shape_for(conversation: Conversation, shapes: Shapes) -> TurnShape:
    kwargs = conversation.template_kwargs
    key = (bool(conversation.tools), repr(kwargs) if kwargs else "")
    shape = shapes.get(key)
    if not isinstance(shape, TurnShape):
        shape = learn_turn_shape(conversation.tokenizer, conversation.tools, kwargs)
        shapes[key] = shape
    return shape


def _cut(plan: Plan, options: EncodeOptions) -> TokenArrays:
    ids, labels, limit = plan.ids, plan.labels, options.max_length
    assert ids is not None and labels is not None  # tokenise() has filled them in
    length = len(ids)
    if limit is not None and length > limit:
        kept = slice(-limit, None) if options.truncation_mode == "keep_end" else slice(limit)
        ids, labels = ids[kept], labels[kept]
    return TokenArrays(ids, labels, length, plan.ledger)
