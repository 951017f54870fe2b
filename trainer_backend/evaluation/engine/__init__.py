"""Asks loaded models: losses and answers of held-out rows. Imports torch."""
