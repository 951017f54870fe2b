"""Scripts of charts that several tabs draw with."""
