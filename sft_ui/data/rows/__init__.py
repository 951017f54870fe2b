"""The row browser: table, one row, its tokens."""
