"""LoRA+ (arXiv 2402.12354): the B matrices of an adapter learn with a higher rate than the A's.

Which optimizer steps, and its schedule, are not decided here.
"""

import torch
from torch.optim import Optimizer


def quicken_b(optimizer: Optimizer, model: torch.nn.Module, ratio: float) -> None:
    """Move the B matrices to groups of their own, whose learning rate is `ratio` times as high.

    Every other option of a group stays (weight decay, betas), and groups with the base rate stay
    first. Call it before a step was made. Raises ValueError if the model has no LoRA layer.
    """
    of_b = {id(one) for name, one in model.named_parameters() if ".lora_B." in name}
    if not of_b:
        raise ValueError(
            f"loraplus_lr_ratio={ratio} is set, and the model has no LoRA adapter to learn so."
        )
    for group in list(optimizer.param_groups):
        chosen = [one for one in group["params"] if id(one) in of_b]
        if chosen:
            group["params"] = [one for one in group["params"] if id(one) not in of_b]
            optimizer.add_param_group({**group, "params": chosen, "lr": group["lr"] * ratio})
