"""From files to stored examples: reading, formats, checks and storage. No tokens, no training."""
