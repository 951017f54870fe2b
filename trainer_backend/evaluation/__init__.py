"""What a run has learned: base and tuned model on rows that it was not trained on."""
