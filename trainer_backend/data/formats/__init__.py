"""Rows become messages: detects the format of rows and converts each row.

The names of formats (Alpaca, ShareGPT, …) are known only here; the result is messages or text.
"""

from trainer_backend.data.formats.calls import without_nulls
from trainer_backend.data.formats.choice import mapping_of, parse_columns, written_columns
from trainer_backend.data.formats.conversations import order_problem, with_system
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
from trainer_backend.data.formats.marks import TRAIN_MARKS, is_trained
from trainer_backend.data.formats.notes import Note
from trainer_backend.data.formats.tools import slim_tools
