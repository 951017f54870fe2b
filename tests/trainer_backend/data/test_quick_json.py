"""quick_json() gives the same text as to_json(), for any value."""

from hypothesis import given, settings
from hypothesis import strategies as some

from trainer_backend.data.json_values import NumberText, parse, quick_json, to_json

TEXTS = some.text(some.characters(codec=None), max_size=20)
NUMBERS = some.integers() | some.floats(allow_nan=False, allow_infinity=False)
SCALARS = TEXTS | NUMBERS | some.booleans() | some.none()
MESSAGES = some.lists(some.dictionaries(TEXTS, TEXTS | SCALARS, max_size=3), max_size=3)
ROWS = some.dictionaries(TEXTS, SCALARS | MESSAGES, max_size=4)


@settings(max_examples=200, deadline=None)
@given(some.dictionaries(TEXTS, TEXTS, max_size=4) | MESSAGES | ROWS)
def test_same_letters_for_any_value(value):
    assert quick_json(value) == to_json(value)


def test_same_letters_for_every_character_that_json_may_escape():
    letters = "".join(map(chr, [*range(0x300), *range(0x2000, 0x2070), 0xFEFF, 0xFFFD, 0x1F600]))
    for value in ({"text": letters}, [{"role": "user", "content": letters}]):
        assert quick_json(value) == to_json(value) and parse(to_json({"a": "b"})) == {"a": "b"}


def test_numbers_stay_as_they_were_written():
    row = {"prompt": "a", "score": NumberText("1.10"), "large": 10**30, "small": 1e-7, "wide": 1e16}
    assert quick_json(row) == to_json(row)
    assert '"score":1.10' in quick_json(row) and '"wide":1e+16' in quick_json(row)
