"""A script's own formatting_func: rows to one column of text. Tokens are made in tokens.py."""

import warnings
from collections.abc import Callable

# what a function written for batches raises when it is given a single row
_NOT_A_ROW = (TypeError, IndexError, KeyError, AttributeError, ValueError)


def apply_formatting(dataset, function: Callable, columns: list[str], text_field: str):
    """Write what the function says into the text column, in place of all others.

    It may take one row and return a text, or take a batch and return a list of texts, as older
    scripts write it.
    """
    if "input_ids" in columns:
        warnings.warn("formatting_func is ignored: the dataset is tokenised already.", stacklevel=5)
        return dataset
    if _takes_batches(function, next(iter(dataset), None)):
        return dataset.map(
            lambda batch: {text_field: function(batch)}, batched=True, remove_columns=columns
        )
    return dataset.map(lambda row: {text_field: function(row)}, remove_columns=columns)


def _takes_batches(function: Callable, row: dict | None) -> bool:
    if row is None:
        return False
    try:
        if isinstance(function(row), str):
            return False
    except _NOT_A_ROW:
        pass
    try:
        texts = function({name: [cell] for name, cell in row.items()})
    except _NOT_A_ROW:
        return False  # it fails either way: the error of its row says more
    return isinstance(texts, list) and len(texts) == 1 and isinstance(texts[0], str)
