"""Replacements for slow operations of transformers and peft, with the same results."""
