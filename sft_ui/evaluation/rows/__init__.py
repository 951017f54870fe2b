"""The rows of an evaluation: which are shown, in which order, and what differs in them."""
