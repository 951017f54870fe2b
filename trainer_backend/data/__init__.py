"""From files to tokens: reading, understanding, checking, encoding, packing, collating.

Training is not here.
"""
