"""Files become rows: one reader per file type, with exact text and errors that name the row.

Nothing here knows what a row means.
"""

from trainer_backend.data.readers.files import Progress, open_rows, read_rows
from trainer_backend.data.readers.hub import download_hub_data, hub_choices, is_hub_id

__all__ = [
    "Progress",
    "download_hub_data",
    "hub_choices",
    "is_hub_id",
    "open_rows",
    "read_rows",
]
