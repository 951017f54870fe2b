"""Token ids of many texts at once through fastokens, where it gives what the tokenizer gives.

It is about five times as fast as the tokenizer itself. Every tokenizer is tried on hard texts
before its first use and some rows of every batch are compared; what differs, or is not known to
fastokens, goes the usual way in tokens.py.
"""

import logging
from collections.abc import Sequence
from itertools import chain
from weakref import WeakKeyDictionary

import fastokens
import numpy as np

logger = logging.getLogger(__name__)
ENOUGH = 500  # texts for which reading the vocabulary a second time pays
_EVERY = 100  # of so many rows one is compared
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
_known: WeakKeyDictionary = WeakKeyDictionary()


def quick_ids(tokenizer, texts: Sequence[str], special_tokens: bool):
    """Ids of all texts in one int32 array and where each text begins in it; None: not here.

    `tokenizer` is one of transformers with a `tokenizers` backend.
    """
    if len(texts) < ENOUGH:
        return None
    quick = _quick(tokenizer)
    if quick is None:
        return None
    try:
        found = _flat(quick, texts, special_tokens)
    except _REFUSALS:  # a text that only the tokenizer itself can judge
        return None
    if _agrees(tokenizer.backend_tokenizer, texts, found, special_tokens):
        return found
    logger.warning("Two ways of tokenising differ; the slower one, the tokenizer's, is used.")
    _known[tokenizer] = (tokenizer_state(tokenizer), None)
    return None


def _quick(tokenizer):
    state = tokenizer_state(tokenizer)
    if _known.get(tokenizer, ("", None))[0] != state:
        _known[tokenizer] = (state, _build(tokenizer.backend_tokenizer))
    return _known[tokenizer][1]


def tokenizer_state(tokenizer) -> str:
    """What can change in a tokenizer of transformers, in short."""
    backend = tokenizer.backend_tokenizer
    parts = (backend.normalizer, backend.pre_tokenizer, backend.post_processor)
    return f"{len(tokenizer)} {parts} {getattr(backend.model, 'dropout', None)}"


def _build(backend):
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


def _flat(quick, texts: Sequence[str], special_tokens: bool):
    ids, starts = quick.encode_batch_flat(list(texts), add_special_tokens=special_tokens)
    return np.frombuffer(ids, np.int32), np.frombuffer(starts, np.int64)


def _agrees(backend, texts, found, special_tokens: bool, every: int = _EVERY) -> bool:
    ids, starts = found
    rows = range(0, len(texts), every)
    true = backend.encode_batch_fast(
        [texts[row] for row in rows], add_special_tokens=special_tokens
    )
    return all(
        np.array_equal(ids[starts[row] : starts[row + 1]], one.ids)
        for row, one in zip(rows, true, strict=True)
    )
