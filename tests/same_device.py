"""Compares what a trainer left on its device with tensors of a test on the CPU."""

import torch


def logits_of(model, ids: torch.Tensor) -> torch.Tensor:
    """A model's logits in eval mode, on the CPU wherever the model is."""
    with torch.no_grad():
        return model.eval()(input_ids=ids.to(model.device)).logits.cpu()


def same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether two tensors are equal: bit for bit, except that a GPU adds up in any order."""
    if not torch.cuda.is_available():
        return torch.equal(found, wanted)
    return torch.allclose(found.cpu(), wanted.cpu(), rtol=1e-4, atol=1e-5)
