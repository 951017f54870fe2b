"""The control tokens of a tokenizer, and which texts spell them.

A control token is one that the tokenizer marks as special. Nothing is rendered or tokenised here.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase as Tokenizer

Span = tuple[int, int]  # [start, end) in characters
JOINT = "\0"  # between two texts that are searched together; no control token holds it
_NEVER = re.compile(r"(?!)")
# tokenizer -> (its special tokens and size, the control tokens found for them)
_known: "WeakKeyDictionary[Tokenizer, tuple[tuple, ControlTokens]]" = WeakKeyDictionary()


@dataclass(frozen=True)
class ControlTokens:
    """Spellings of a tokenizer's control tokens, and the patterns that find them in a text."""

    names: frozenset[str]
    pattern: re.Pattern[str]  # a control token, the longest first
    added: re.Pattern[str]  # any token that the tokenizer cuts out before it splits a text
    signs: dict[str, tuple[str, ...]]  # names by their first character, where that is no letter
    words: tuple[str, ...]  # the other names

    def names_in(self, text: str) -> list[str]:
        """The control tokens that a text spells, sorted."""
        found = {name for name in self.words if name in text}
        for sign, names in self.signs.items():  # such a character is rare in most texts
            at = text.find(sign)
            while at >= 0:
                if text.startswith(names, at):
                    found.update(name for name in names if text.startswith(name, at))
                at = text.find(sign, at + 1)
        return sorted(found)

    def places(self, text: str) -> list[Span]:
        """Where the tokenizer itself sees control tokens in a text, in order."""
        found = self.added.finditer(text)
        return [match.span() for match in found if match[0] in self.names]


def control_tokens(tokenizer: Tokenizer) -> ControlTokens:
    """The control tokens of a tokenizer: every token that is marked as special.

    Left out are those that plain text gives as well, such as a padding token “!”.
    """
    state = (len(tokenizer), *map(str, tokenizer.special_tokens_map.values()))
    known = _known.get(tokenizer)
    if known is None or known[0] != state:
        known = _known[tokenizer] = (state, _read(tokenizer))
    return known[1]


def _read(tokenizer: Tokenizer) -> ControlTokens:
    added = {str(token): token for token in tokenizer.added_tokens_decoder.values()}
    special = {*tokenizer.all_special_tokens, *(name for name in added if added[name].special)}
    if tokenizer.is_fast:
        special &= added.keys()  # the tokenizer looks for no other in a text
    names = frozenset(name for name in special if name and not _is_ordinary(name, tokenizer))
    alone = {name for name, token in added.items() if token.single_word}
    words = tuple(sorted(name for name in names if name[0].isalnum()))
    signs = {
        sign: tuple(sorted(name for name in names if name[0] == sign))
        for sign in sorted({name[0] for name in names} - {word[0] for word in words})
    }
    every = _either({*added, *names}, alone)
    return ControlTokens(names, _either(names, ()), every, signs, words)


def _is_ordinary(name: str, tokenizer: Tokenizer) -> bool:
    """Whether a special token is also what the vocabulary makes of plain text."""
    if len(name) == 1:
        return True
    if not (name.isalnum() and tokenizer.is_fast):
        return False
    return tokenizer.backend_tokenizer.model.token_to_id(name) is not None


def _either(names: Iterable[str], alone: Collection[str]) -> re.Pattern[str]:
    """A pattern of these names, the longest first; those of `alone` are found as a word only."""
    ordered = sorted(names, key=lambda name: (-len(name), name))
    parts = [
        rf"(?<!\w){re.escape(name)}(?!\w)" if name in alone else re.escape(name) for name in ordered
    ]
    return re.compile("|".join(parts)) if parts else _NEVER
