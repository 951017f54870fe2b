"""Pattern checks of texts: secrets, personal data, control tokens, encoding damage.

Many texts are searched at once. Which message or row a text belongs to is not known here.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from trainer_backend.data.checks.findings import Kind
from trainer_backend.data.checks.mojibake import mojibake_places
from trainer_backend.redact import secret_places

Found = Iterator[tuple[Kind, np.ndarray]]  # (kind, indices of the texts with it)

MAY_TRAIN = "Make sure that you may train on them: a model can repeat what it has learned."
EXPORT_AGAIN = "Export the data again from its source, as UTF-8."
CONTROL_TOKENS = Kind(
    "control_tokens",
    "warning",
    "Texts contain what looks like control tokens of a chat template.",
    "They are trained as plain text, except in texts that are already rendered for the model "
    "that is trained. Remove them if they are left over from another template.",
    ("drop",),
)
MEDIA_MARKS = Kind(
    "media_marks",
    "warning",
    "Texts contain marks of images, videos or sounds, but their rows hold none.",
    "The marks are trained as plain text. Add the images (in one zip archive with the table, or in "
    "a Parquet file), or leave these rows out.",
    ("drop",),
)
LOST_LETTERS = Kind(
    "lost_letters",
    "warning",
    "Texts contain the replacement character \ufffd: some letters were lost.",
    EXPORT_AGAIN,
    ("drop",),
)
MOJIBAKE = Kind(
    "mojibake",
    "warning",
    "Texts were decoded with the wrong encoding (Ã© instead of é, ÄãºÃ instead of 你好).",
    "Read the file again with its own encoding, or export the data again from its source as UTF-8.",
    ("drop",),
)
CONTROL_CHARACTERS = Kind(
    "control_characters",
    "info",
    "Texts contain invisible control characters.",
    "The model learns to write them too. Remove them unless they are intended.",
    ("clean", "drop"),
)
SECRET = Kind(
    "secret",
    "warning",
    "Texts seem to contain a password or access key.",
    "Leave these rows out and replace the key: a model can repeat what it has learned.",
    ("drop",),
)
EMAIL = Kind("email", "info", "Texts contain e-mail addresses.", MAY_TRAIN, ("drop",))
PHONE = Kind("phone", "info", "Texts seem to contain phone numbers.", MAY_TRAIN, ("drop",))
CARD_NUMBER = Kind(
    "card_number",
    "warning",
    "Texts seem to contain a payment card number.",
    "Leave these rows out or mask the number: a model can repeat what it has learned.",
    ("drop",),
)

_EMAIL = re.compile(
    r"(?<=[\w.+-])@(?!example\.)[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[A-Za-z]{2,24}\b"
)
_LONG_NUMBER = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.])")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}"
    r"|(?:\+?1[ .-])?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})"
    r"(?![\w-]|\.\d)"
)
_MIN_DIGITS = 9  # of a phone number
_CONTROL_TOKEN = re.compile(
    r"<\|[A-Za-z0-9_ ./-]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>"
    r"|<(?:bos|eos|pad|unk)>|<(?:start_of_turn|end_of_turn)>|<｜[^｜<>]{1,40}｜>"
)
_MEDIA_MARK = re.compile(
    r"<(?:image|video|audio|img|speech|sound|ImageHere|image-placeholder|image_placeholder)>"
    r"|<\|(?:image|video|audio|vision_start|image_pad|video_pad)(?:_?\d+)?\|>"
    r"|<(?:image|img|video|audio)_?\d+>|\[(?:IMG|IMAGE|VIDEO|AUDIO)\]"
)
CONTROL_LETTER = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


def text_findings(texts: Sequence[str]) -> Found:
    """All pattern findings in `texts`, one kind at a time."""
    joined = "\0".join(texts)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    starts = np.cumsum(lengths) - lengths

    def texts_at(places: Iterable[int]) -> np.ndarray:
        return np.unique(np.searchsorted(starts, [*places], side="right") - 1)

    def where(pattern: re.Pattern) -> np.ndarray:
        return texts_at(match.start() for match in pattern.finditer(joined))

    if "<" in joined or "[" in joined:
        yield CONTROL_TOKENS, where(_CONTROL_TOKEN)
        yield MEDIA_MARKS, where(_MEDIA_MARK)
    yield SECRET, texts_at(secret_places(joined))
    if "@" in joined:
        yield EMAIL, where(_EMAIL)
    if not joined.isprintable():
        yield CONTROL_CHARACTERS, where(CONTROL_LETTER)
    if not joined.isascii():
        yield LOST_LETTERS, where(re.compile("\ufffd"))
        yield MOJIBAKE, texts_at(mojibake_places(joined))
    numbers = _with_digits(joined, starts)
    yield CARD_NUMBER, _texts_where(texts, numbers, _has_card)
    yield PHONE, _texts_where(texts, numbers, _has_phone)


def _with_digits(joined: str, starts: np.ndarray) -> np.ndarray:
    """Indices of the texts with enough digits for a card or phone number."""
    wide = "ascii" if joined.isascii() else "utf-32-le"
    letters = np.frombuffer(joined.encode(wide, "replace"), np.uint8 if wide == "ascii" else "<u4")
    if not len(letters):
        return np.empty(0, np.int64)
    digits = np.cumsum((letters - letters.dtype.type(48)) < 10)  # below "0" wraps around
    ends = np.append(starts[1:] - 1, len(letters)) - 1
    before = np.where(starts > 0, digits[starts - 1], 0)
    return np.flatnonzero(digits[np.maximum(ends, 0)] - before >= _MIN_DIGITS)


def _texts_where(
    texts: Sequence[str], indices: np.ndarray, holds: Callable[[str], bool]
) -> np.ndarray:
    return np.array([at for at in indices if holds(texts[at])], np.int64)


def _has_card(text: str) -> bool:
    return any(is_card_number(found[0]) for found in _LONG_NUMBER.finditer(text))


def _has_phone(text: str) -> bool:
    return any(is_phone_number(found[0]) for found in _PHONE.finditer(text))


def is_card_number(text: str) -> bool:
    """Whether the digits have a valid first digit and check digit (Luhn, ISO/IEC 7812)."""
    digits = [int(letter) for letter in text if letter.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    plausible = digits[0] in (3, 4, 5, 6) and len(set(digits)) > 2
    return plausible and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_phone_number(text: str) -> bool:
    """Whether there are 9 to 15 digits (ITU-T E.164 allows 15), and no fictional 555-01xx."""
    digits = "".join(letter for letter in text if letter.isdigit())
    return 9 <= len(digits) <= 15 and len(set(digits)) > 2 and "55501" not in digits
