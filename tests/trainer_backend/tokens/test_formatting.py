"""A formatting_func takes one row, or a batch as older scripts write it."""

import pytest
from datasets import Dataset, IterableDataset

from trainer_backend.tokens.prepare import apply_formatting

ROWS = [{"a": "Hi", "b": 1}, {"a": "Yo", "b": 2}]


def one(row):
    return f"{row['a']}{row['b']}"


def many(rows):
    return [f"{a}{b}" for a, b in zip(rows["a"], rows["b"], strict=True)]


@pytest.mark.parametrize("function", [one, many])
@pytest.mark.parametrize("stream", [False, True])
def test_the_text_takes_the_place_of_all_columns(function, stream):
    rows = IterableDataset.from_generator(lambda: iter(ROWS)) if stream else Dataset.from_list(ROWS)
    found = apply_formatting(rows, function, ["a", "b"], "body")
    assert list(found) == [{"body": "Hi1"}, {"body": "Yo2"}]


def test_tokens_are_not_formatted_again():
    rows = Dataset.from_list([{"input_ids": [1]}])
    with pytest.warns(UserWarning, match="tokenised already"):
        assert apply_formatting(rows, one, ["input_ids"], "text") is rows


def test_a_function_that_fails_fails_with_its_own_words():
    with pytest.raises(KeyError, match="c"):
        apply_formatting(Dataset.from_list(ROWS), lambda row: row["c"], ["a", "b"], "text")
