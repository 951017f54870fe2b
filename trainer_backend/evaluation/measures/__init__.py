"""Measures of an answer against the expected one, intervals of their means, the verdict."""
