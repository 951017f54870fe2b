"""Files become rows: one reader for each file type, with exact text and errors that name the row.

What the columns mean is not known here.
"""

from trainer_backend.data.readers.files import Progress, open_rows, read_rows
from trainer_backend.data.readers.hub import download_hub_data, hub_choices, is_hub_id
