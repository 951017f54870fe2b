"""Files become rows: one reader for each file type, with exact text and errors that name the row.

What the columns mean is not known here. Hub datasets are left out of this face: importing the
Hub library takes longer than reading ten thousand rows.
"""

from trainer_backend.data.readers.files import Progress, open_rows, read_rows
