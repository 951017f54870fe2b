"""Correcting a wrong answer wherever one is shown, and training on what was corrected."""
