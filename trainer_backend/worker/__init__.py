"""The process that trains one run: the trainer, its guards, checks and checkpoints."""
