"""What runs inside the model process; it may import torch."""
