"""The result of an evaluation on the page: headline, table, samples."""
