"""lm-eval, the field's evaluation harness, asked in a process of its own; its numbers beside ours.

The package is optional. What its tasks ask and how they score is not known here.
"""
