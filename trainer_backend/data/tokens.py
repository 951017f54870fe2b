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
        group = [p for p in plans if p.ids is None and p.special_tokens == special_tokens]
        if not group:
            continue
        ids, at = _encode(tokenizer, [plan.text for plan in group], special_tokens)
        asked = [plan for plan in group if plan.prompt is not None]
        contexts = _encode(tokenizer, [plan.prompt for plan in asked], special_tokens)[0]
        for row, plan in enumerate(group):
            plan.ids, plan.labels = ids[row], list(ids[row])
            if plan.spans is not None:
                plan.labels = _mask_spans(plan, at[row], tokenizer)
            _drop_second_bos(plan, tokenizer)
        for plan, context in zip(asked, contexts, strict=True):
            start = _common_prefix(context, plan.ids)
            plan.labels[:start] = [IGNORED] * start


def _encode(tokenizer, texts: list[str], special_tokens: bool):
    """Ids of each text, and for each a function from a character's place to its token's."""
    if not texts:
        return [], []
    if not tokenizer.is_fast:
        ids = tokenizer(texts, add_special_tokens=special_tokens)["input_ids"]
        return ids, [None] * len(ids)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    found = backend.encode_batch(texts, add_special_tokens=special_tokens)
    return [encoding.ids for encoding in found], [encoding.char_to_token for encoding in found]


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


def _mask_spans(plan: Plan, at, tokenizer) -> list[int]:
    """Keep the labels of tokens that hold at least one character of a span."""
    labels = [IGNORED] * len(plan.ids)
    for start, end in plan.spans:
        first, last = _token_range(plan, at, tokenizer, start, end)
        labels[first:last] = plan.ids[first:last]
    return labels


def _token_range(plan: Plan, at, tokenizer, start: int, end: int) -> Span:
    if at is None:  # a slow tokenizer does not say where its tokens come from
        texts = [plan.text[:start], plan.text[:end]]
        heads = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return _common_prefix(heads[0], plan.ids), _common_prefix(heads[1], plan.ids)
    first = next((t for c in range(start, end) if (t := at(c)) is not None), None)
    if first is None:  # only characters that the tokenizer drops
        return 0, 0
    return first, next(t for c in range(end - 1, start - 1, -1) if (t := at(c)) is not None) + 1
