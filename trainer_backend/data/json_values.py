"""Strict JSON (RFC 8259): one text to one value, and back to the same text.

As in I-JSON (RFC 7493), repeated keys and lone surrogates are errors; so are NaN, NUL characters
and nesting deeper than 64 levels. Files and rows are not known here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring
from typing import Any

import orjson

from trainer_backend.data.images import ImageBytes
from trainer_backend.errors import TrainingDataError

MAX_DEPTH = 64
MAX_COLUMNS = 1_000
MAX_DIGITS = 4_000
MAX_KEYS = 200_000  # in one row, at all depths together
_WORD = re.compile(r"[^\W\d][\w-]*")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class NumberText:
    """A number that Python would print differently (1.10, 1E5, -0), kept as its text."""

    __slots__ = ("text",)

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NumberText) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class BadJSON(ValueError):
    """A JSON text that is refused; `position` is the character offset of the fault, if known.

    `too_deep` (or too wide): reading more of the text or searching for its end is no use.
    """

    word = ""  # a word that is refused wherever it stands outside quotes
    cut_off = False  # the text ends inside the value

    def __init__(self, what: str, fix: str, position: int | None = None, *, too_deep: bool = False):
        super().__init__(what)
        self.what, self.fix, self.position, self.too_deep = what, fix, position, too_deep


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadJSON(f"The key “{twice[:60]}” appears twice.", "Remove or rename one of them.")
    if len(value) > MAX_COLUMNS:
        raise BadJSON(
            f"An object has {len(value):,} keys, more than {MAX_COLUMNS:,}.",
            "Keep only the columns that matter.",
        )
    return value


def _many_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _pairs(pairs)


def _float(text: str) -> float | NumberText:
    value = float(text)
    return value if repr(value) == text else NumberText(text)


def _int(text: str) -> int | NumberText:
    if len(text) > MAX_DIGITS:
        raise BadJSON(f"A number has {len(text):,} digits.", "Put it in quotes if it is text.")
    return NumberText(text) if text == "-0" else int(text)


def _constant(text: str) -> None:
    error = BadJSON(f"{text} is not JSON.", "Use null, or put it in quotes if it is text.")
    error.word = text
    raise error


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_float, parse_int=_int, parse_constant=_constant
)
_WIDE_DECODER = json.JSONDecoder(
    object_pairs_hook=_many_pairs, parse_float=_float, parse_int=_int, parse_constant=_constant
)
_LOOSE_DECODER = json.JSONDecoder(parse_float=str, parse_int=str)  # only finds where a value ends


def parse(text: str, *, wide: bool = False) -> Any:
    """Parse one whole JSON text; numbers may become NumberText. Raises BadJSON.

    `wide` allows objects with any number of keys, for columns written as {"0": …, "1": …}.
    """
    start = len(text) - len(text.lstrip(" \t\r\n\ufeff"))
    if not wide:
        check_keys(text)
    value, end = parse_at(text, start, _WIDE_DECODER if wide else _DECODER)
    rest = text[end:].strip(" \t\r\n")
    if rest:
        raise _more_text(rest, end)
    return value


def _more_text(rest: str, at: int) -> BadJSON:
    """The error for what follows a value that should stand alone."""
    if rest == ",":
        fix = "Remove the comma at the end."
        return BadJSON("There is a comma after the end of the JSON value.", fix, at)
    if rest.lstrip(", \t")[:1] in ("{", "["):
        fix = "Put each of them on a line of its own."
        return BadJSON("Two JSON values stand on one line.", fix, at)
    shown = rest.splitlines()[0][:20]
    what = f"There is more text after the end of the JSON value: “{shown}”."
    return BadJSON(what, "Remove this text, or put it in quotes where it belongs.", at)


def check_keys(text: str) -> None:
    """Raise BadJSON, without parsing, for a large text with more than MAX_KEYS keys."""
    if len(text) > 1 << 20 and text.count('":') > MAX_KEYS:
        what = f"A row has more than {MAX_KEYS:,} keys."
        raise BadJSON(what, "Keep only what matters.", too_deep=True)


def parse_at(text: str, start: int = 0, decoder: json.JSONDecoder = _DECODER) -> tuple[Any, int]:
    """Parse the value that begins at `start`: (value, position of its end). Raises BadJSON."""
    try:
        value, end = decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _broken(error) from None
    except BadJSON as error:
        if error.word:
            error.position = _place_of(error.word, text, start)
        raise
    except RecursionError:
        raise _too_deep() from None
    if text.count("{", start, end) + text.count("[", start, end) > MAX_DEPTH:
        _check_depth(text[start:end])
    if text.find("\\u", start, end) >= 0:
        check_strings(value)
    return value, end


def _place_of(word: str, text: str, start: int) -> int | None:
    """Where a word stands outside the quotes of the value that begins at `start`."""
    rest = text[start : start + (1 << 20)]
    place = STRING.sub(lambda found: " " * len(found[0]), rest).find(word)
    return start + place if place >= 0 else None


def end_of_value(text: str, start: int) -> int | None:
    """Where the value at `start` ends, even if parse_at refuses it; None if it is broken."""
    try:
        return _LOOSE_DECODER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None


def _too_deep() -> BadJSON:
    what = f"The JSON is nested deeper than {MAX_DEPTH} levels."
    return BadJSON(what, "Flatten the data.", too_deep=True)


def _check_depth(text: str) -> None:
    depth = 0
    for mark in re.findall(r"[\[{\]}]", STRING.sub("", text)):
        depth += 1 if mark in "[{" else -1
        if depth > MAX_DEPTH:
            raise _too_deep()


def check_strings(value: Any) -> None:
    """Raise BadJSON for a NUL character or a lone surrogate in any string of a value."""
    for text in strings_of(value):
        if "\0" in text:
            raise BadJSON("A text holds a NUL character (\\u0000).", "Remove the character.")
        if has_half_character(text):
            raise BadJSON(
                "A text holds half a character (a lone surrogate, \\ud800 to \\udfff).",
                "Write the whole character; the text was cut in the middle of an emoji.",
            )


def has_half_character(text: str) -> bool:
    """Whether a text has a lone surrogate, which cannot be encoded as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def strings_of(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings_of(item)


def _broken(error: json.JSONDecodeError) -> BadJSON:
    what, fix = _named_fault(error)
    found = BadJSON(f"Broken JSON: {what}.", fix, error.pos)
    found.cut_off = error.pos >= len(error.doc.rstrip()) or _is_unclosed(error)
    return found


def _is_unclosed(error: json.JSONDecodeError) -> bool:
    return error.msg.startswith("Unterminated string")


def _named_fault(error: json.JSONDecodeError) -> tuple[str, str]:
    """(what is wrong at the place of a fault, how to correct it)."""
    text, at = error.doc, error.pos
    if at >= len(text.rstrip()):
        return "it ends too early", "The text is cut off: add the rest, or export the file again."
    if _is_unclosed(error):
        fix = "Close the quote. If the text is cut off, export the file again."
        return "a text is not closed, or the file ends too early", fix
    if "control character" in error.msg:
        return _plain(error), "Write line breaks inside a text as \\n and tabs as \\t."
    if "escape" in error.msg:
        return _plain(error), "Write a backslash inside a text as \\\\ (two of them)."
    if text.startswith(("//", "/*", "#"), at):
        return "a comment", "Remove it: JSON has no comments."
    found = _word_fault(error) or _mark_fault(error)
    return found or (_plain(error), "Look for an extra or missing comma, quote or bracket here.")


def _word_fault(error: json.JSONDecodeError) -> tuple[str, str] | None:
    """The same for a word that stands outside quotes."""
    text, word = error.doc, _WORD.match(error.doc, error.pos)
    if not word:
        return None
    before = text[max(0, error.pos - 100) : error.pos].rstrip()[-1:]
    if before == '"' and "delimiter" in error.msg:
        return "a quote inside a text", 'Write " inside a text as \\".'
    if text[word.end() : word.end() + 100].lstrip()[:1] == ":":
        return f"the key {word[0][:40]} without quotes", f'Write it as "{word[0][:40]}".'
    fix = "Write true, false or null (in small letters), or put it in double quotes."
    return f"the word {word[0][:40]} without quotes", fix


def _mark_fault(error: json.JSONDecodeError) -> tuple[str, str] | None:
    """The same for a quote or a bracket in the wrong place."""
    letter = error.doc[error.pos]
    before = error.doc[max(0, error.pos - 100) : error.pos].rstrip()[-1:]
    if letter == "'":
        fix = "Use double quotes: JSON has no single quotes. Python's json.dumps writes them."
        return "text in single quotes", fix
    if letter in "“”„‘’«":
        return f"a typographic quote {letter}", 'Use plain double quotes: ".'
    if letter in "}]" and before == ",":
        return f"a comma before the closing {letter}", "Remove the comma."
    if letter == '"' and "delimiter" in error.msg:
        fix = 'Add the comma; inside a text write " as \\".'
        return "a comma or colon is missing before a quote", fix
    return None


def _plain(error: json.JSONDecodeError) -> str:
    return error.msg[0].lower() + error.msg[1:]


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def to_json(value: Any) -> str:
    """Write a value as compact JSON: numbers as parse() read them, images by their stored name."""
    try:
        return _encode(value)
    except TypeError:
        return _slow_json(value)


def _slow_json(value: Any) -> str:
    if isinstance(value, NumberText):
        return value.text
    if isinstance(value, ImageBytes):
        return _encode(value.to_json())
    if isinstance(value, list):
        return "[" + ",".join(map(_slow_json, value)) + "]"
    if isinstance(value, dict):
        pairs = (f"{encode_basestring(key)}:{_slow_json(item)}" for key, item in value.items())
        return "{" + ",".join(pairs) + "}"
    return _encode(value)


def quick_json(value: dict | list) -> str:
    """The same text as to_json(), faster for a row of strings and for a list of plain messages."""
    if all(map(_only_text, value.values() if isinstance(value, dict) else value)):
        try:
            return orjson.dumps(value).decode()
        except TypeError:  # a lone surrogate, or a key that is not a string
            pass
    return to_json(value)


def _only_text(value: Any) -> bool:
    if type(value) is str:
        return True
    if type(value) is dict:
        return all(type(item) is str for item in value.values())
    if type(value) is list:
        return all(
            type(item) is dict and all(type(text) is str for text in item.values())
            for item in value
        )
    return False


def cell_text(value: Any) -> str:
    """A cell as text: a string unchanged, anything else as its JSON, null as ""."""
    if isinstance(value, str):
        return value
    return "" if value is None else to_json(value)


def parse_json_column(value: Any, column: str) -> Any:
    """A list or dict, or the one a text holds as JSON; "" becomes None.

    Raises TrainingDataError for text that is not JSON.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise TrainingDataError(
            f"The “{column}” column is not valid JSON: {error}.",
            f"column “{column}”",
            "Store a list of messages, or the same list as JSON text.",
        ) from error


def drop_nones(value: Any) -> Any:
    """Remove keys that Arrow filled with null, at every depth: templates test for presence."""
    if isinstance(value, str):  # by far the most frequent, and faster than the next check
        return value
    if isinstance(value, Mapping):
        return {key: drop_nones(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [drop_nones(item) for item in value]
    return value


def plain_numbers(value: Any) -> Any:
    """The value with each NumberText as the int or float it stands for."""
    if isinstance(value, NumberText):
        return json.loads(value.text)
    if isinstance(value, list):
        return [plain_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_numbers(item) for key, item in value.items()}
    return value
