"""Tables of token ids and labels that are ready to train on."""
