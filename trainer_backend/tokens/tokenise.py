"""Planned texts to ids and labels, in batches: tokens are masked by the characters they come from.

Which characters are trained is given; no template is known here.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from weakref import WeakKeyDictionary

import fastokens
import numpy as np
from tokenizers import Encoding
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.control.quiet import moved, quiet_copy, slow_ids
from trainer_backend.tokens.token_bytes import (
    TokenBytes,
    byte_length,
    learned_places,
    read_token_bytes,
)

logger = logging.getLogger(__name__)
IGNORED = -100  # label of a token that is not trained
ENOUGH = 500  # texts from which on building a second tokeniser pays
_EVERY = 100  # one text in this many is compared with the tokenizer's own ids
_REFUSALS = (ValueError, TypeError, RuntimeError, OverflowError, UnicodeError)
_HARD = (
    "",
    " ",
    "  two  spaces\n\n\nand lines\r\n\tend ",
    "I'll DON'T we'VE it’s 3.14159 1234567 x² ½ Ⅷ ٣٤",
    "café cafe\u0301 naïve ſ İ ﬁ \u212b \u00a0 \u3000 \x85 \u200d",
    "日本語の文。 한국어 العربية नमस्ते",
    "😀👩\u200d👩\u200d👧 𝔘 ▁▁ a▁b",
    "def f(x):\n    return x==1;\n\n\n    # <tag> </tag> {{}} \\n \x00\x01\x7f",
    "https://example.org/a_b?c=%20&d=e#f --- *** ___ — … «»",
)
# tokenizer -> (its state, the tokeniser or table built for that state, or None)
_known: WeakKeyDictionary[Tokenizer, tuple[str, fastokens.Tokenizer | None]] = WeakKeyDictionary()
_bytes_of: WeakKeyDictionary[Tokenizer, tuple[str, TokenBytes | None]] = WeakKeyDictionary()
Span = tuple[int, int]
Ids = tuple[np.ndarray, np.ndarray]  # int32 ids of all texts; int64 start of each text, and the end


@dataclass
class Plan:
    """One example between rendering and tokens; tokenise() fills in `ids` and `labels`."""

    text: str = ""
    prompt: str | None = None  # text before the completion; the ids they share are not trained
    spans: list[Span] | None = None  # [start, end) of the trained characters; None: all
    special_tokens: bool = False
    # where control tokens stand in `text` and `prompt`; None: wherever the tokenizer sees one
    controls: list[Span] | None = None
    prompt_controls: list[Span] | None = None
    ledger: int = 0  # flags: what became of each kind of content
    ids: np.ndarray | None = None  # int32 [tokens]
    labels: np.ndarray | None = None  # int32 [tokens]


def tokenise(plans: list[Plan], tokenizer: Tokenizer) -> None:
    """Fill in int32 ids and labels of every plan that has none; any tokenizer, fast or slow.

    A token is trained when it holds a trained character. Raises TypeError or UnicodeEncodeError,
    as the tokenizer does, for text with a lone surrogate.
    """
    for special_tokens, told in product((True, False), (False, True)):
        group = [
            plan
            for plan in plans
            if plan.ids is None
            and plan.special_tokens == special_tokens
            and (plan.controls is not None) == told
        ]
        if group:
            _fill(group, _Reader(tokenizer, special_tokens, told))


@dataclass(frozen=True)
class _Text:
    """A text to tokenise, and where its control tokens stand (None: where they are seen)."""

    text: str
    controls: list[Span] | None


@dataclass(frozen=True)
class _Reader:
    """How the texts of one group are tokenised; `told`: it is known where control tokens stand."""

    tokenizer: Tokenizer
    special_tokens: bool
    told: bool


def _fill(group: list[Plan], reader: _Reader) -> None:
    tokenizer, special_tokens = reader.tokenizer, reader.special_tokens
    spans = any(plan.spans is not None for plan in group)
    places = _token_bytes(tokenizer) if spans else None
    texts = [_Text(plan.text, plan.controls) for plan in group]
    ids, starts, encodings = _encode(reader, texts, spans and places is None)
    labels = ids.copy()
    if spans:
        rest = list(range(len(group)))
        if places is not None:
            rest = _mask_by_bytes(group, places, ids, starts, labels)
        _mask_by_offsets(group, rest, encodings, reader, ids, starts, labels)
    prompts = [
        _Text(plan.prompt, plan.prompt_controls) for plan in group if plan.prompt is not None
    ]
    heads, cuts, _ = _encode(reader, prompts, False)
    contexts = iter(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
    borders = starts.tolist()
    for plan, start, end in zip(group, borders, borders[1:], strict=False):
        plan.ids, plan.labels = ids[start:end], labels[start:end]
        if plan.prompt is not None:
            plan.labels[: _common_prefix(heads[slice(*next(contexts))], plan.ids)] = IGNORED
        if special_tokens:
            _drop_second_bos(plan, tokenizer)


def _encode(
    reader: _Reader, given: list[_Text], offsets: bool
) -> tuple[np.ndarray, np.ndarray, list[Encoding] | None]:
    """Ids of all texts, where each begins, and the tokenizers' encodings if offsets are wanted."""
    if not given:
        return np.zeros(0, np.int32), np.zeros(1, np.int64), None
    tokenizer, special_tokens = reader.tokenizer, reader.special_tokens
    encodings = None
    if not tokenizer.is_fast:
        rows = _slow_rows(reader, given)
    else:
        backend, texts = _backend(reader, given)
        quick = None if offsets or reader.told else quick_ids(tokenizer, texts, special_tokens)
        if quick is not None:
            return *quick, None
        run = backend.encode_batch if offsets else backend.encode_batch_fast
        encodings = run(texts, add_special_tokens=special_tokens)
        rows = [encoding.ids for encoding in encodings]
    starts = np.cumsum([0, *map(len, rows)])
    ids = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows])
    return ids, starts, encodings if offsets else None


def _backend(reader: _Reader, given: list[_Text]) -> tuple[Backend, list[str]]:
    """What tokenises these texts, and the texts as it takes them."""
    backend = reader.tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    texts = [one.text for one in given]
    if not reader.told:
        return backend, texts
    quiet = quiet_copy(reader.tokenizer, tokenizer_state(reader.tokenizer), texts)
    return quiet.backend, [quiet.renamed(one.text, one.controls or ()) for one in given]


def _slow_rows(reader: _Reader, given: list[_Text]) -> list[list[int]]:
    if not reader.told:
        texts = [one.text for one in given]
        return reader.tokenizer(texts, add_special_tokens=reader.special_tokens)["input_ids"]
    return [
        slow_ids(reader.tokenizer, one.text, one.controls or (), reader.special_tokens)
        for one in given
    ]


def _token_bytes(tokenizer: Tokenizer) -> TokenBytes | None:
    if not tokenizer.is_fast:
        return None
    state = tokenizer_state(tokenizer)
    if _bytes_of.get(tokenizer, ("", None))[0] != state:
        _bytes_of[tokenizer] = (state, read_token_bytes(tokenizer.backend_tokenizer))
    return _bytes_of[tokenizer][1]


def _drop_second_bos(plan: Plan, tokenizer: Tokenizer) -> None:
    """A text that already begins with the BOS token must not get a second one."""
    bos = tokenizer.bos_token_id
    assert plan.ids is not None and plan.labels is not None
    if bos is not None and len(plan.ids) > 1 and plan.ids[0] == plan.ids[1] == bos:
        plan.ids, plan.labels = plan.ids[1:], plan.labels[1:]


def _common_prefix(first: np.ndarray, second: np.ndarray) -> int:
    count = min(len(first), len(second))
    differ = first[:count] != second[:count]
    return int(differ.argmax()) if differ.any() else count


def _mask_by_bytes(
    group: list[Plan], places: TokenBytes, ids: np.ndarray, starts: np.ndarray, labels: np.ndarray
) -> list[int]:
    """Keep the labels of tokens that hold a byte of a span; returns the plans left to offsets."""
    ends, right = places.ends([plan.text for plan in group], ids, starts)
    before = np.append(0, ends)[starts[:-1]].tolist()
    spans: list[Span] = []
    rest: list[int] = []
    whole = np.zeros(len(group), dtype=bool)
    for row, plan in enumerate(group):
        if plan.spans is None:
            whole[row] = True
        elif not right[row]:
            rest.append(row)
        else:
            spans += _byte_spans(plan.text, plan.spans, before[row])
    kept = learned_places(ends, spans, len(ids)) | np.repeat(whole, np.diff(starts))
    labels[~kept] = IGNORED
    return rest


def _byte_spans(text: str, spans: list[Span], base: int) -> list[Span]:
    if text.isascii():
        return [(base + start, base + end) for start, end in spans]
    return [
        (base + byte_length(text[:start]), base + byte_length(text[:end])) for start, end in spans
    ]


def _mask_by_offsets(
    group: list[Plan],
    rows: list[int],
    encodings: Sequence[Encoding] | Mapping[int, Encoding] | None,
    reader: _Reader,
    ids: np.ndarray,
    starts: np.ndarray,
    labels: np.ndarray,
) -> None:
    """The same by the tokenizer's own character offsets, for the given plans."""
    rows = [row for row in rows if group[row].spans is not None]
    if encodings is None and reader.tokenizer.is_fast and rows:
        backend, texts = _backend(
            reader, [_Text(p.text, p.controls) for p in (group[r] for r in rows)]
        )
        found = backend.encode_batch(texts, add_special_tokens=reader.special_tokens)
        encodings = dict(zip(rows, found, strict=True))
    for row in rows:
        plan, part = group[row], slice(starts[row], starts[row + 1])
        own, kept = ids[part], np.zeros(starts[row + 1] - starts[row], dtype=bool)
        spans = plan.spans or []
        if encodings is not None and plan.controls is not None:
            spans = moved(spans, plan.controls)
        for start, end in spans:
            if encodings is None:
                first, last = _range_by_prefix(plan, own, reader, start, end)
            else:
                first, last = _range_by_offsets(encodings[row], start, end)
            kept[first:last] = True
        labels[part] = np.where(kept, own, IGNORED)


def _range_by_prefix(plan: Plan, ids: np.ndarray, reader: _Reader, start: int, end: int) -> Span:
    """Token range of a span for a slow tokenizer, which has no offsets: tokenise the prefixes."""
    heads = _slow_rows(
        replace(reader, special_tokens=False),
        [_Text(plan.text[:cut], plan.controls) for cut in (start, end)],
    )
    first, last = (_common_prefix(np.asarray(head, dtype=np.int32), ids) for head in heads)
    return first, last


def _range_by_offsets(encoding: Encoding, start: int, end: int) -> Span:
    at = encoding.char_to_token
    first = next((t for c in range(start, end) if (t := at(c)) is not None), None)
    if first is None:  # only characters that the tokenizer drops
        return 0, 0
    places = range(end - 1, start - 1, -1)
    place, token = next((c, t) for c in places if (t := at(c)) is not None)
    last, lies = token + 1, encoding.token_to_chars
    while last < len(encoding) and (chars := lies(last)) and chars[0] <= place < chars[1]:
        last += 1  # a character may need several tokens
    return first, last


# Rows that are tokenised already


def given_ids(example: Mapping, completion_only: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids and labels of a tokenised row, int32 [tokens].

    Without a `labels` column every id that no mask excludes is trained. Raises TrainingDataError
    when they are no lists of integers of one length.
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
    return ids, labels


def _check_length(ids: np.ndarray, other: Sequence | np.ndarray, name: str) -> None:
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
            "Give integers, or text for the tokenizer.",
        )
    return ids


# The Rust tokeniser fastokens, where it gives the same ids


def quick_ids(tokenizer: Tokenizer, texts: Sequence[str], special_tokens: bool) -> Ids | None:
    """Ids of all texts by fastokens: int32 [all tokens], and int64 offsets [texts + 1].

    None when there are too few texts, or fastokens does not reproduce this tokenizer's ids, which
    is tested on hard texts first and on a sample of the result. Needs a `tokenizers` backend.
    """
    if len(texts) < ENOUGH:
        return None
    quick = _quick(tokenizer)
    if quick is None:
        return None
    try:
        found = _flat(quick, texts, special_tokens)
    except _REFUSALS:  # the tokenizer itself raises a better error
        return None
    if _agrees(tokenizer.backend_tokenizer, texts, found, special_tokens):
        return found
    logger.warning("fastokens and this tokenizer differ; the ids of the tokenizer itself are used.")
    _known[tokenizer] = (tokenizer_state(tokenizer), None)
    return None


def _quick(tokenizer: Tokenizer) -> fastokens.Tokenizer | None:
    state = tokenizer_state(tokenizer)
    if _known.get(tokenizer, ("", None))[0] != state:
        _known[tokenizer] = (state, _build(tokenizer.backend_tokenizer))
    return _known[tokenizer][1]


def tokenizer_state(tokenizer: Tokenizer) -> str:
    """A cache key: changes when tokens are added or the pipeline of a fast tokenizer changes."""
    backend = tokenizer.backend_tokenizer
    parts = (backend.normalizer, backend.pre_tokenizer, backend.post_processor)
    return f"{len(tokenizer)} {parts} {getattr(backend.model, 'dropout', None)}"


def _build(backend: Backend) -> fastokens.Tokenizer | None:
    if backend.encode_special_tokens or getattr(backend.model, "dropout", None):
        return None
    try:
        quick = fastokens.Tokenizer.from_json_str(backend.to_str())
        added = [token.content for token in backend.get_added_tokens_decoder().values()]
        texts = [*_HARD, " ".join(added), "".join(added), *chain(*zip(added, _HARD, strict=False))]
        alike = all(
            _agrees(backend, texts, _flat(quick, texts, special), special, every=1)
            for special in (False, True)
        )
    except _REFUSALS:
        return None
    return quick if alike else None


def _flat(quick: fastokens.Tokenizer, texts: Sequence[str], special_tokens: bool) -> Ids:
    ids, starts = quick.encode_batch_flat(list(texts), add_special_tokens=special_tokens)
    return np.frombuffer(ids, np.int32), np.frombuffer(starts, np.int64)


def _agrees(
    backend: Backend, texts: Sequence[str], found: Ids, special_tokens: bool, every: int = _EVERY
) -> bool:
    ids, starts = found
    rows = range(0, len(texts), every)
    true = backend.encode_batch_fast(
        [texts[row] for row in rows], add_special_tokens=special_tokens
    )
    return all(
        np.array_equal(ids[starts[row] : starts[row + 1]], one.ids)
        for row, one in zip(rows, true, strict=True)
    )
