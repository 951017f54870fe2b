"""Plain texts: their end token, and which of the control tokens that they spell are meant.

A text is not looked into unless it spells one.
"""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.data.checks.control import (
    RENDERED_AS_TEXT,
    RENDERED_OTHER,
    RENDERED_TEXT,
    SPELLED,
)
from trainer_backend.tokens.control.rendered import rendered_for
from trainer_backend.tokens.control.spelling import Span, control_tokens


@dataclass(frozen=True)
class Ended:
    """A text with its end token; `begins` and `ends` are its control tokens at either side.

    `told`: only these are meant. Else every control token that the text spells is one.
    """

    text: str
    begins: int = 0  # characters of the beginning-of-text token, 0 without one
    ends: int = 0  # characters of the end token
    told: bool = False
    flags: int = 0  # how the other control tokens are read

    def controls(self) -> list[Span] | None:
        """Where control tokens stand in the text; None: wherever the tokenizer sees one."""
        last = [(len(self.text) - self.ends, len(self.text))] if self.ends else []
        return self.context_controls() + last if self.told else None

    def context_controls(self) -> list[Span]:
        """Where they stand in a beginning of the text."""
        return [(0, self.begins)] if self.begins else []


def with_end(text: str, tokenizer: Tokenizer) -> str:
    """The text, closed with the end token if it does not end with it."""
    eos = tokenizer.eos_token or ""
    return text if text.endswith(eos) else text + eos


def end_text(text: str, tokenizer: Tokenizer, mode: str) -> Ended:
    """Put the end token after a text that does not end with it, and find what its tokens mean.

    A control token at the beginning (BOS) or end (EOS) is meant, and every one of a text that is
    rendered already for this model. With `mode` "text" none is, with "tokens" every one.
    """
    bos, eos, strict = tokenizer.bos_token, tokenizer.eos_token or "", mode == "text"
    begins = len(bos) if bos and text.startswith(bos) and not strict else 0
    has_end = text.endswith(eos) and len(text) >= begins + len(eos)
    whole = text if has_end and not strict else text + eos
    inner = whole[begins : len(whole) - len(eos)]
    if not control_tokens(tokenizer).names_in(inner):
        return Ended(whole)
    found = rendered_for(text, tokenizer)
    if found is None:
        return Ended(whole, begins, len(eos), True, SPELLED)
    if not found.own:
        return Ended(whole, begins, len(eos), True, SPELLED | RENDERED_OTHER)
    if strict:
        return Ended(whole, begins, len(eos), True, SPELLED | RENDERED_AS_TEXT)
    closed = bool(eos) and text.rstrip().endswith(eos)  # turns end with a line break, too
    return Ended(text if closed else whole, flags=RENDERED_TEXT)
