"""Chat templates as objects of study: what one asks for, its switches, and built-in ones.

No conversation of a dataset is rendered here.
"""
