"""Models in memory: loading weights, tokenizers and adapters, and generating answers."""
