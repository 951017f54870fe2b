"""What a LoRA adapter can have beside its matrices: its settings, PiSSA and LoRA+."""
