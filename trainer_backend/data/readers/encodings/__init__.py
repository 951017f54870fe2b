"""Encodings of text: their names for people, and which one the bytes of a file are in.

No file is opened here: bytes come in, names and decoded samples go out.
"""
