"""What a text should make one think twice about: secrets, personal data, boilerplate, leaks.

Pure functions over one example's text; counting and wording of places is checks.py.
"""

import re
from collections.abc import Iterator

Finding = tuple[str, str, str]  # severity, what, fix

_SECRET_HINTS = ("sk-", "ghp_", "github_pat_", "hf_", "AKIA", "xox", "AIza", "PRIVATE KEY")
_SECRET = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{20,}|ghp_[A-Za-z0-9]{36}|github_pat_\w{22,}|hf_[A-Za-z0-9]{30,}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{35})\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_EMAIL = re.compile(
    r"[\w.+-]{1,64}@(?!example\.)[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[A-Za-z]{2,24}\b"
)
_LONG_NUMBER = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.])")
_BOILERPLATE = (
    "as an ai language model", "as a large language model", "as an ai assistant, i",
    "my knowledge cutoff", "my last knowledge update", "i'm sorry, but i cannot assist",
    "i'm sorry, but i can't assist",
)  # fmt: skip
MIN_LEAK = 40  # letters: shorter answers stand in their prompt for good reasons


def text_findings(whole: str) -> Iterator[Finding]:
    """Secrets and personal data anywhere in an example."""
    if any(hint in whole for hint in _SECRET_HINTS) and _SECRET.search(whole):
        fix = "Remove it, and have the key replaced: a model can repeat what it learned."
        yield "warning", "A text seems to hold a password or access key.", fix
    if "@" in whole and _EMAIL.search(whole):
        fix = "Make sure that you may train on them; a model can repeat what it learned."
        yield "info", "Texts hold e-mail addresses.", fix
    if any(is_card_number(found[0]) for found in _LONG_NUMBER.finditer(whole)):
        fix = "Remove or blacken it: a model can repeat what it learned."
        yield "warning", "A text seems to hold a card number.", fix


def answer_findings(asked: str, answer: str) -> Iterator[Finding]:
    """What is odd about an answer beside its prompt."""
    lowered = answer.lower().replace("’", "'")
    if any(phrase in lowered for phrase in _BOILERPLATE):
        fix = "Remove such rows, unless the model should answer like this."
        yield "warning", "Answers hold another assistant's stock phrases.", fix
    if len(answer) >= MIN_LEAK and answer in asked:
        fix = "Make sure that the model will get this text too when it is used."
        yield "info", "The whole answer already stands in the prompt.", fix


def is_card_number(text: str) -> bool:
    """Whether the digits have a card's first digit and its check digit (Luhn)."""
    digits = [int(letter) for letter in text if letter.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    plausible = digits[0] in (3, 4, 5, 6) and len(set(digits)) > 2
    return plausible and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
