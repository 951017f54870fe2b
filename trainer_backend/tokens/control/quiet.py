"""Encodes texts in which only given places are control tokens, whatever else the texts spell.

A copy of the tokenizer knows its control tokens under other names: two characters that no text
holds. A text is encoded in one piece, so that all its other tokens are those of the tokenizer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.errors import TrainingDataError
from trainer_backend.recipe import changed_to
from trainer_backend.tokens.control.spelling import Span, control_tokens

_LEADS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # not characters: no text should hold them
_SECOND = 0xF0000  # of a name's two characters: this plus the number of the token
_PROBES = ("a", " b c", "\n\nd 1.\n", " ")
# tokenizer -> (its state, lead -> the copy made for that state)
_copies: WeakKeyDictionary[Tokenizer, tuple[str, dict[str, "Quiet"]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Quiet:
    """A copy of a fast tokenizer for which no readable text spells a control token."""

    backend: Backend
    names: dict[str, str]  # control token -> its name in the copy

    def renamed(self, text: str, places: Sequence[Span]) -> str:
        """The text as the copy takes it, with the names of the control tokens at `places`."""
        parts, last = [], 0
        for start, end in places:
            parts += [text[last:start], self.names[text[start:end]]]
            last = end
        return "".join([*parts, text[last:]])


def moved(spans: Sequence[Span], places: Sequence[Span]) -> list[Span]:
    """Spans of a text in its renamed form, where every control token has two characters."""

    def shift(position: int) -> int:
        gone = 0
        for start, end in places:
            if end > position:
                return min(position, start + 1) - gone if start < position else position - gone
            gone += end - start - 2
        return position - gone

    return [(shift(start), shift(end)) for start, end in spans]


def quiet_copy(tokenizer: Tokenizer, state: str, texts: Sequence[str]) -> Quiet:
    """The copy for these texts. `state` changes whenever the tokenizer does.

    Raises TrainingDataError where no copy encodes like the tokenizer.
    """
    if _copies.get(tokenizer, ("", {}))[0] != state:
        _copies[tokenizer] = (state, {})
    known = _copies[tokenizer][1]
    free = (lead for lead in _LEADS if not any(lead in text for text in texts))
    lead = next(free, None)
    if lead is None:
        raise _refusal("a text holds all 32 characters that could stand for them")
    if lead not in known:
        known[lead] = _build(tokenizer, lead)
    return known[lead]


def _build(tokenizer: Tokenizer, lead: str) -> Quiet:
    backend, control = tokenizer.backend_tokenizer, control_tokens(tokenizer)
    names = {name: lead + chr(_SECOND + at) for at, name in enumerate(sorted(control.names))}
    parts = json.loads(backend.to_str())
    for keep in (True, False):
        copy = Quiet(Backend.from_str(json.dumps(_renamed(parts, names, keep))), names)
        if _is_alike(backend, copy):
            return copy
    raise _refusal("it encodes otherwise when they are renamed")


def _renamed(parts: dict[str, Any], names: dict[str, str], keep: bool) -> dict[str, Any]:
    """A tokenizer's file with other names; `keep`: whether a text is normalised before them."""
    added = [
        {
            **token,
            "content": names.get(token["content"], token["content"]),
            "normalized": token["normalized"] and (keep or token["content"] not in names),
        }
        for token in parts["added_tokens"]
    ]
    model = {**parts["model"]}
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(word, word): id_ for word, id_ in vocabulary.items()}
    else:  # pieces with their scores
        model["vocab"] = [[names.get(word, word), score] for word, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if model.get("merges"):
        model["merges"] = [pair for pair in model["merges"] if not _makes(pair, names)]
    return {**parts, "added_tokens": added, "model": model, "truncation": None, "padding": None}


def _makes(pair: Sequence[str] | str, names: dict[str, str]) -> bool:
    first, second = pair.split(" ", 1) if isinstance(pair, str) else pair
    return first in names or second in names or first + second in names


def _is_alike(backend: Backend, copy: Quiet) -> bool:
    """Whether the copy gives the tokenizer's ids for texts with control tokens between words."""
    names = sorted(copy.names)
    if any(
        copy.backend.token_to_id(copy.names[name]) != backend.token_to_id(name) for name in names
    ):
        return False
    for at, name in enumerate(names[:64]):
        pieces = [*_PROBES[at % 4 :], name, *_PROBES, name, names[at - 1], *_PROBES[: at % 4]]
        for special in (True, False):
            text, places = "", []
            for piece in pieces:
                if piece in copy.names:
                    places.append((len(text), len(text) + len(piece)))
                text += piece
            own = backend.encode(text, add_special_tokens=special).ids
            if (
                copy.backend.encode(copy.renamed(text, places), add_special_tokens=special).ids
                != own
            ):
                return False
    return True


def _refusal(reason: str) -> TrainingDataError:
    return TrainingDataError(
        f"Texts spell control tokens of this model, and they cannot be encoded as text: {reason}.",
        "the tokenizer",
        "Take the control tokens out of the texts, or set "
        f"{changed_to({'control_tokens': 'tokens'})}.",
    )


def slow_ids(
    tokenizer: Tokenizer, text: str, places: Sequence[Span], special_tokens: bool
) -> list[int]:
    """Ids of one text by a tokenizer without a fast backend, in pieces between its added tokens."""
    added = {str(token): token for token in tokenizer.added_tokens_decoder.values()}
    control, begins = control_tokens(tokenizer), {start for start, _ in places}
    tokens: list[str] = []
    last, strips = 0, False
    for match in control.added.finditer(text):
        name = match[0]
        if name in control.names and match.start() not in begins:
            continue
        token = added.get(name)
        piece = text[last : match.start()]
        piece = piece.lstrip() if strips else piece
        piece = piece.rstrip() if token is not None and token.lstrip else piece
        tokens += [*_plain(tokenizer, piece), name]
        last, strips = match.end(), token is not None and token.rstrip
    rest = text[last:].lstrip() if strips else text[last:]
    found: Any = tokenizer.convert_tokens_to_ids([*tokens, *_plain(tokenizer, rest)])
    return tokenizer.build_inputs_with_special_tokens(found) if special_tokens else found


def _plain(tokenizer: Tokenizer, piece: str) -> list[str]:
    return tokenizer.tokenize(piece, split_special_tokens=True) if piece else []
