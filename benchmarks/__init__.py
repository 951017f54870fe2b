"""Measurements anyone can repeat; each file is one and runs alone. The app uses none of it."""
