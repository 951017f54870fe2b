"""Many texts as numpy arrays: their bytes, their words, and the text each word belongs to.

Nothing is judged or counted here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SPACE = 32
_PUNCTUATION = bytes(range(33)) + b'!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\x7f'
_PLAIN = bytes(
    _SPACE if byte in _PUNCTUATION else byte + 32 if 65 <= byte <= 90 else byte
    for byte in range(256)
)  # lower case; punctuation and control characters become spaces
_FIRST_OF_SIGNS = 0xE3  # first UTF-8 byte of scripts without spaces: each sign is a word
_LOW_BYTES = np.array([(1 << (8 * count)) - 1 for count in range(8)] + [2**64 - 1], np.uint64)


@dataclass(frozen=True)
class WordArrays:
    """The words of several texts, one after another.

    `data` and `starts` are of the texts, the other arrays have one entry for each word.
    """

    data: np.ndarray  # uint8: the UTF-8 bytes of all texts
    starts: np.ndarray  # int64 (texts + 1,): where each text begins in data, and the end
    head: np.ndarray  # uint64: bytes 1 to 8, zero-padded
    tail: np.ndarray  # uint64: bytes 9 to 16, zero-padded
    size: np.ndarray  # int64: length in bytes
    text: np.ndarray  # int64: index of the text

    @property
    def num_texts(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1


def word_arrays(texts: Sequence[str]) -> WordArrays:
    """Split texts into words: runs of letters and digits, or single signs of Chinese and Japanese.

    ASCII letters are lowered; typographic quotes and dashes count as spaces.
    """
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    joined = b"\0".join([*encoded, b""])
    plain = np.frombuffer(joined.translate(_PLAIN) + b" " * 16, np.uint8)
    if not joined.isascii():
        plain = _without_typography(plain)
    begins, sizes = _words(plain, ascii_only=joined.isascii())
    text = np.repeat(
        np.arange(len(encoded)), np.diff(np.searchsorted(begins, starts)).astype(np.int64)
    )
    windows = np.lib.stride_tricks.as_strided(plain, (max(len(joined), 1), 16), (1, 1))
    bytes_of = windows[begins].view(np.uint64)
    head = bytes_of[:, 0] & _LOW_BYTES[np.minimum(sizes, 8)]
    tail = bytes_of[:, 1] & _LOW_BYTES[np.clip(sizes - 8, 0, 8)]
    return WordArrays(np.frombuffer(joined, np.uint8), starts, head, tail, sizes, text)


def _without_typography(plain: np.ndarray) -> np.ndarray:
    """Replace U+2000 to U+203F (quotes, dashes, spaces) and the no-break space by spaces."""
    plain = plain.copy()
    marks = np.flatnonzero((plain[:-2] == 0xE2) & (plain[1:-1] == 0x80))
    for offset in range(3):
        plain[marks + offset] = _SPACE
    blanks = np.flatnonzero((plain[:-1] == 0xC2) & (plain[1:] == 0xA0))
    plain[blanks] = plain[blanks + 1] = _SPACE
    return plain


def _words(plain: np.ndarray, ascii_only: bool) -> tuple[np.ndarray, np.ndarray]:
    """(begins, sizes) of the words, in bytes."""
    inside = plain != _SPACE
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if len(inside) and inside[0]:
        edges = np.concatenate([np.zeros(1, edges.dtype), edges])
    if ascii_only:  # edges alternate: begin, end; the last 16 bytes are spaces
        return edges[0::2], edges[1::2] - edges[0::2]
    signs = np.flatnonzero((plain >= _FIRST_OF_SIGNS) & (plain < 0xF8))
    edges = np.union1d(edges, signs)
    begins = edges[inside[edges]]
    ends = edges[np.searchsorted(edges, begins) + 1]
    return begins, ends - begins
