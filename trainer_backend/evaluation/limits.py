"""How many rows are asked at once, which ones, and how long an answer may be. Free of torch.

The engine and the estimate of its time keep to the same numbers.
"""

from collections.abc import Sequence

import numpy as np

ROWS_AT_ONCE = 64
KEYS_SHARE = 0.25  # of the free memory, for their keys and values
MOST_ANSWER_TOKENS = 2048
MORE_TOKENS, MORE_SHARE = 16, 0.1  # on top of what 19 of 20 expected answers need
SAMPLE_TOKENS = 64  # of an answer while the model trains
SAMPLE_SHARE = 0.05  # of a run's time that such answers may take
LOSS_GROUPS = 40  # groups of rows whose losses are kept apart, at least where there are so many
MOST_LOSS_ROWS = 1000  # of a dataset that is not the run's own


def answer_limit(lengths: Sequence[int] | np.ndarray) -> int:
    """The most tokens of an answer, from the tokens of the expected ones: most of them, and a bit.

    An answer as long as the longest ones may be cut; waiting for those would cost the time of all
    rows on which the base model does not end.
    """
    if not len(lengths):
        return MORE_TOKENS
    usual = float(np.quantile(np.asarray(lengths), 0.95, method="higher"))
    return int(min(MOST_ANSWER_TOKENS, round(usual * (1 + MORE_SHARE)) + MORE_TOKENS))


def spread(at: np.ndarray, rows: int) -> np.ndarray:
    """`rows` of the places `at`, evenly over all of them: files are often sorted."""
    if rows >= len(at):
        return at
    return at[np.linspace(0, len(at) - 1, max(rows, 0)).round().astype(np.int64)]


def rows_in_group(rows: int, most: int) -> int:
    """How many rows share one loss: few, for an interval, and not more than a batch holds."""
    return max(1, min(most, rows // LOSS_GROUPS))
