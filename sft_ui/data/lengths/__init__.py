"""The histogram of token lengths."""
