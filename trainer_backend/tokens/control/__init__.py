"""Control tokens: only what a chat template writes is one, never what a text merely spells.

Which texts spell one, which are rendered already, and how the others are encoded as plain text.
"""
