"""Runs beside each other: settings, curves, scores, and blind tests between models."""
