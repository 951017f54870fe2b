"""Bytes, speed and time left in words."""

import pytest

from trainer_backend.downloads import bytes_in_words, time_in_words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((0, 0), ""),
        ((12_000_000, 0, 3e6), "12 MB · 3.0 MB/s"),
        ((0, 93_000_000), "0 of 93 MB"),
        ((1.2e9, 5.5e9, 38e6), "1.2 of 5.5 GB · 38 MB/s · about 2 min left"),
        ((93e6, 93e6, 6e6), "93 of 93 MB · 6.0 MB/s"),
        ((500, 10_000, 10), "0.5 of 10 kB · 0 kB/s · about 16 min left"),
        ((999_700, 999_700), "1.0 of 1.0 MB"),
    ],
)
def test_bytes(given, words):
    assert bytes_in_words(*given) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (89, "89 s"),
        (91, "2 min"),
        (3600 * 3, "3 h"),
        (7_260, "2 h 1 min"),
        (4e5, "5 days"),
    ],
)
def test_times(seconds, words):
    assert time_in_words(seconds) == words
