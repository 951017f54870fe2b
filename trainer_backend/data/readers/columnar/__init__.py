"""Rows of files that store columns, Parquet and Arrow, under a budget of decoded bytes."""
