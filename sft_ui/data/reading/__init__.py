"""Bringing data in: sources, uploads being read, column roles."""
