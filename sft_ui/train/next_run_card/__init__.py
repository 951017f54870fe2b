"""The run that Start would begin: its card, what Start asks, and its commands to copy."""
