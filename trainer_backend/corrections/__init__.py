"""Answers that a person corrected, as rows of a dataset to train on."""
