"""Ways to keep fewer activations, and which of them a run needs."""
