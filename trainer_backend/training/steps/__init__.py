"""What happens within one optimizer step around the forward and backward pass."""
