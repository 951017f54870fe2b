"""Sums on paper for sizes that nobody measured here: each number has a formula and its source."""

from benchmarks.scaling.paper.tables import paper_tables

__all__ = ["paper_tables"]
