"""Finds text that was once decoded with the wrong encoding: Ã©, ÄãºÃ, Ïðèâåò, РџСЂРё, “¤¤¤å”.

Only what no language writes counts; which encoding would have been right is not said. Letters that
another language uses (Turkish ş become þ) cannot be told from that language here.
"""

import re
from collections.abc import Iterator

# UTF-8 decoded with a Western code page: the second byte of a character is one of these
_TAIL = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_SECOND = "[\u00a0-\u00ffŒŽœžŠšŸ“”‘’•–—˜™›€…†‡ˆ‰A-Za-z@-`]"  # of a character in Shift JIS
_TAIL_1251 = "\u00a0-\u00bfЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—™љ›њќћџЎўЈҐЁЄЇІіґё№єјЅѕї"  # no А to я
# each pattern begins with one set of characters: the search for it is quick
_WESTERN = [
    re.compile(pattern)
    for pattern in (
        "[ÃÂ][\u0080-\u00bf¤¶¼ŸŽ©¨]",
        "[âðï](?:(?<=â)€[\u0080-\u00bf™œ¦“”\u009d]|(?<=ð)Ÿ[\u0080-\u00bf˜™š]|(?<=ï)»¿)",
        f"[ÐÑØÙ][{_TAIL}][ÐÑØÙ][{_TAIL}]",
        f"[à-ï][{_TAIL}][{_TAIL}][à-ï][{_TAIL}][{_TAIL}]",
        "[\u0080-\u0084\u0086-\u009f]",  # C1 control codes: bytes of any encoding as Latin-1
        f"[‚ƒ]{_SECOND}[‚ƒ]{_SECOND}[‚ƒ]{_SECOND}",  # Shift JIS
        "[¿¾¼¹³](?<=[a-zà-ÿ]{2}.)(?=[a-zà-ÿ])",  # inside a word
        "[ŠŽ„‚†‡ˆ‰](?<=[a-z].)(?=[a-z])",
    )
]
_RUN = re.compile("[\u00a1-\u00ff]{4,}")  # two bytes a character, or a word of Cyrillic
_OUTER = "¡¿«»·°§"  # signs that people do write several of
# where text may be UTF-8 that was decoded with this encoding; decoding it back decides
_CP1252 = re.compile(f"[Â-ï][{_TAIL}]")
_CP1251 = re.compile(f"[В-п][{_TAIL_1251}]")
_KOI8 = re.compile("[\u2500-\u259f](?<=[а-яА-Я].)")
_GB18030 = re.compile(
    "[锟锛銆鈥芯械邪胁锌褌褉谢薪褋懈写泻褍茅眉盲枚贸谩铆煤帽莽猫脿膰膮艂]"
    "(?:(?<=[锟锛銆鈥])|(?<=[芯械邪胁锌褌褉谢薪褋懈写泻褍]{2})|(?<=[a-z][茅眉盲枚贸谩铆煤帽莽猫脿膰膮艂]))"
)
# Windows-1251 and KOI8-R taken for each other swap small letters and capitals
_SWAPPED = re.compile("[а-я](?<![А-я].)[А-Я]{3,}(?![а-я])")
_ANY_WESTERN, _ANY_CYRILLIC = re.compile("[\u0080-\u00ff‚ƒŠŽ„†‡ˆ‰]"), re.compile("[А-я]")


def mojibake_places(joined: str) -> Iterator[int]:
    """Where wrongly decoded text begins, in texts that are joined by NUL characters."""
    if _ANY_WESTERN.search(joined):
        for pattern in _WESTERN:
            yield from (found.start() for found in pattern.finditer(joined))
        yield from (found.start() for found in _RUN.finditer(joined) if _is_no_word(found[0]))
        yield from _decoded_twice(joined, "cp1252", _CP1252)
    if _ANY_CYRILLIC.search(joined):
        yield from _decoded_twice(joined, "cp1251", _CP1251)
        yield from _decoded_twice(joined, "koi8-r", _KOI8)
        swapped = [found.start() for found in _SWAPPED.finditer(joined)]
        if len(swapped) > 1:  # one such word may be a slip of the shift key
            yield from swapped
    yield from _decoded_twice(joined, "gb18030", _GB18030)


def _is_no_word(run: str) -> bool:
    """Whether a run is not one repeated letter, nor punctuation, as people write them."""
    inner = run.strip(_OUTER)
    return len(inner) > 3 and len(set(inner.lower())) > 1 and any(map(str.isalpha, inner))


def _decoded_twice(joined: str, encoding: str, hint: re.Pattern) -> Iterator[int]:
    """The texts whose characters are, as bytes of the encoding, UTF-8 beyond ASCII."""
    end = 0
    for found in hint.finditer(joined):
        if found.start() < end:
            continue  # in the text looked at last
        start = joined.rfind("\0", 0, found.start()) + 1
        end = joined.find("\0", found.start())
        end = len(joined) if end < 0 else end
        try:
            joined[start:end].encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        yield found.start()
