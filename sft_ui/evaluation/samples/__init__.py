"""Answers to a few held-out prompts while a run trains."""
