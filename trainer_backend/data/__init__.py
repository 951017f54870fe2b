"""From files to tokens: reading, understanding, checking, encoding, packing, collating. No training here."""
