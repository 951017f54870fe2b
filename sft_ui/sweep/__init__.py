"""Trying several values of a few settings from the page."""
