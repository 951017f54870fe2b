"""Rows become messages: detects the format of rows and converts each row.

The names of formats (Alpaca, ShareGPT, …) are known only here; the result is messages or text.
"""

from trainer_backend.data.formats.columns.choice import mapping_of, parse_columns, written_columns
from trainer_backend.data.formats.columns.preference import outdone
from trainer_backend.data.formats.conversations import (
    TRAIN_MARKS,
    Note,
    is_trained,
    order_problem,
    slim_tools,
    with_system,
    without_nulls,
)
from trainer_backend.data.formats.detection import Detection, detect_format, first_rows
from trainer_backend.data.formats.example import Example, Reading, find_reading, to_example
from trainer_backend.data.formats.mapping import (
    ROLE_NAMES,
    SYNONYMS,
    ColumnMapping,
    check_mapping,
    describe_mapping,
    named,
    plain_name,
    unused_columns,
)
