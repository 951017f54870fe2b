"""Planned texts to ids and labels, in batches: tokens are masked by the characters they come from.

What is masked is decided in chat_template.py.
"""

from dataclasses import dataclass

IGNORED = -100
Span = tuple[int, int]


@dataclass
class Plan:
    """One example on its way: text, what to mask, and how to tokenise."""

    text: str = ""
    prompt: str | None = None  # context of a completion; its leading ids are not learned
    spans: list[Span] | None = None  # characters that are learned, None: no such mask
    special_tokens: bool = False
    ids: list[int] | None = None
    labels: list[int] | None = None


def tokenise(plans: list[Plan], tokenizer) -> None:
    """Fill in ids and labels of every plan, in two batches: with and without special tokens."""
    for special_tokens in (True, False):
        group = [
            plan for plan in plans if plan.ids is None and plan.special_tokens == special_tokens
        ]
        if not group:
            continue
        settings = {"add_special_tokens": special_tokens, "return_attention_mask": False}
        batch = tokenizer([plan.text for plan in group], **settings)
        asked = [plan for plan in group if plan.prompt is not None]
        contexts = (
            tokenizer([plan.prompt for plan in asked], **settings)["input_ids"] if asked else []
        )
        for row, plan in enumerate(group):
            plan.ids = batch["input_ids"][row]
            plan.labels = list(plan.ids)
            if plan.spans is not None:
                plan.labels = _mask_spans(plan, batch, row, tokenizer)
            _drop_second_bos(plan, tokenizer)
        for plan, context in zip(asked, contexts, strict=True):
            start = _common_prefix(context, plan.ids)
            plan.labels[:start] = [IGNORED] * start


def _drop_second_bos(plan: Plan, tokenizer) -> None:
    """A text that already begins with the BOS token must not get a second one."""
    bos = tokenizer.bos_token_id
    if plan.special_tokens and bos is not None and plan.ids[:2] == [bos, bos]:
        plan.ids, plan.labels = plan.ids[1:], plan.labels[1:]


def _common_prefix(first: list[int], second: list[int]) -> int:
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    return min(len(first), len(second))


def _mask_spans(plan: Plan, batch, row: int, tokenizer) -> list[int]:
    """Keep the labels of tokens that hold at least one character of a span."""
    labels = [IGNORED] * len(plan.ids)
    for start, end in plan.spans:
        first, last = _token_range(plan, batch, row, tokenizer, start, end)
        labels[first:last] = plan.ids[first:last]
    return labels


def _token_range(plan: Plan, batch, row: int, tokenizer, start: int, end: int) -> Span:
    if not tokenizer.is_fast:
        heads = tokenizer([plan.text[:start], plan.text[:end]], add_special_tokens=False)[
            "input_ids"
        ]
        return _common_prefix(heads[0], plan.ids), _common_prefix(heads[1], plan.ids)
    first = next(
        (t for c in range(start, end) if (t := batch.char_to_token(row, c)) is not None), None
    )
    if first is None:  # only characters that the tokenizer drops
        return 0, 0
    last = next(
        t for c in range(end - 1, start - 1, -1) if (t := batch.char_to_token(row, c)) is not None
    )
    return first, last + 1
