"""A tiny model whose tokens see the whole row before them, whatever attention does."""

import torch
from conftest import build_model


class Mixing(torch.nn.Module):
    """A layer that adds the mean of all tokens so far: a state, as a state-space model has."""

    def __init__(self, layer: torch.nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        count = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)[:, None]
        return self.layer(hidden) + hidden.cumsum(1) / count


def mixing_model():
    """A Llama that no layout of its attention can pack."""
    model = build_model()
    model.model.layers[0].mlp = Mixing(model.model.layers[0].mlp)
    return model
