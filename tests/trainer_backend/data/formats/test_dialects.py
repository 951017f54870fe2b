"""Every dialect of messages: read alike by the app and the library, and refused in words."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.trainer_backend.data.formats.dialects import DIALECTS, Dialect
from trainer_backend.data.checks.checker import check_examples
from trainer_backend.data.formats import ColumnMapping, Example, detect_format, to_example
from trainer_backend.data.formats.example import find_reading
from trainer_backend.errors import CODES, RowError, TrainingDataError
from trainer_backend.tokens.inputs import as_dataset

READ = [one for one in DIALECTS if one.messages]
REFUSED = [one for one in DIALECTS if not one.messages]


def named(dialects: list[Dialect]) -> dict[str, Any]:
    return {"argvalues": dialects, "ids": [one.name for one in dialects]}


def mapping_of(dialect: Dialect) -> ColumnMapping:
    if dialect.columns:
        return ColumnMapping("messages", dialect.columns)
    found = detect_format([dialect.row])
    assert found.sure and found.mapping, found.sentence
    return found.mapping


def read(dialect: Dialect) -> Example:
    return to_example(1, dialect.row, mapping_of(dialect))


@pytest.mark.parametrize("dialect", **named(READ))
def test_a_dialect_becomes_canonical_messages(dialect):
    example = read(dialect)
    assert tuple(example.messages) == dialect.messages
    assert tuple(example.tools or ()) == dialect.tools
    found = [problem for problem in check_examples([example], "x") if problem.code != "one_row"]
    said = [problem.what for problem in found if problem.code in {n.code for n in example.notes}]
    assert len(said) == len(dialect.said)
    for words in dialect.said:
        assert any(one.startswith(words) for one in said)
    assert all(problem.code in CODES and problem.fix for problem in found)


@pytest.mark.parametrize("dialect", **named([one for one in READ if not one.columns]))
def test_the_library_reads_a_dialect_as_the_app_does(dialect):
    (given,) = as_dataset([dialect.row]).to_list()
    example = find_reading([given]).example(given)
    messages = example.get("messages") or example["prompt"] + example["completion"]
    assert tuple(messages) == dialect.messages
    assert tuple(example.get("tools") or ()) == dialect.tools


@pytest.mark.parametrize("dialect", **named(REFUSED))
def test_what_is_not_certain_is_refused_in_words(dialect):
    with pytest.raises(RowError) as caught:
        to_example(1, dialect.row, mapping_of(dialect))
    assert caught.value.what.startswith(dialect.said[0])
    assert caught.value.fix and caught.value.code in CODES


def test_canonical_messages_are_read_as_they_are():
    for dialect in READ:
        row: Mapping[str, Any] = {"messages": list(dialect.messages)}
        again = to_example(1, dict(row), ColumnMapping("messages", {"messages": "messages"}))
        assert again.messages == list(dialect.messages)
        assert all(note.code == "unread_keys" for note in again.notes)


def test_the_library_refuses_what_the_app_refuses():
    for dialect in REFUSED:
        reading = find_reading([dialect.row])
        with pytest.raises(TrainingDataError):
            reading.example(dialect.row)
