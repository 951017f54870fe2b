"""A model's forward pass that ends in a loss instead of logits; unasked it stays as it was."""

import sys
from dataclasses import dataclass
from inspect import signature
from types import MethodType

import torch
from transformers.utils import ModelOutput

from trainer_backend.training.loss import (
    LossSpec,
    TokenSums,
    fused_linear_loss,
    head_module_loss,
    shift_and_select,
)


@dataclass
class FusedOutput(ModelOutput):
    """Sums over the trained tokens of a batch, and the router's loss of a mixture of experts."""

    loss: torch.Tensor | None = None
    correct: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    count: torch.Tensor | None = None
    aux_loss: torch.Tensor | None = None


def install_fused_head(model, spec: LossSpec) -> None:
    """Let `model(..., labels=..., fused_loss=True)` return token sums; other calls stay."""
    model.fused_loss_spec = spec

    def forward(self, *args, **kwargs):
        return _forward(self, *args, **kwargs)

    # A method replaced on an instance, because the class is one of hundreds in transformers: DDP,
    # FSDP and accelerate run their hooks around the model's own forward, so the loss must come from
    # it, and a module wrapped around the model would rename every weight in its checkpoints.
    # generate() reads there what a model takes, pixel_values for one; a __wrapped__ would be
    # followed, and this forward lost, when accelerate unwraps the model
    forward.__signature__ = signature(type(model).forward)
    model.forward = MethodType(forward, model)


def _forward(self, *args, fused_loss: bool = False, **kwargs):
    if not fused_loss:
        return type(self).forward(self, *args, **kwargs)
    labels = kwargs.pop("labels")
    routed = uses_router(self)
    if routed:
        kwargs["output_router_logits"] = True
    outputs = self.base_model(*args, **{**kwargs, "use_cache": False})
    sums = head_loss(self, outputs[0], labels, self.fused_loss_spec)
    aux = router_loss(self, outputs.router_logits, kwargs.get("attention_mask")) if routed else None
    return FusedOutput(*sums, aux_loss=aux)


def head_loss(model, hidden, labels, spec: LossSpec) -> TokenSums:
    """Sum the token losses from the last hidden states through the model's own head."""
    states, targets = shift_and_select(hidden, labels)
    head = model.get_output_embeddings()
    if type(head) is torch.nn.Linear and not (head._forward_hooks or head._forward_pre_hooks):
        return fused_linear_loss(states, head.weight, head.bias, targets, spec)
    return head_module_loss(states, head, targets, spec)


def uses_router(model) -> bool:
    """Tell whether the model wants its router balanced."""
    return bool(getattr(model.config.get_text_config(), "output_router_logits", False))


def router_loss(model, router_logits, attention_mask):
    """The load-balancing loss, by the model's own formula."""
    balance = sys.modules[type(model).__module__].load_balancing_loss_func
    config = model.config.get_text_config()  # vision models keep these numbers there
    experts = getattr(model, "num_experts", None) or config.num_experts
    chosen = getattr(model, "num_experts_per_tok", None) or config.num_experts_per_tok
    return balance(router_logits, experts, chosen, attention_mask)


def balance_router(model, args) -> bool:
    """Switch the load-balancing loss of a mixture of experts on or off, as asked."""
    config, weight = model.config.get_text_config(), args.router_aux_loss_coef
    routed = hasattr(config, "output_router_logits")
    if weight and not routed:
        raise ValueError(
            f"router_aux_loss_coef={weight} is set, but {type(model).__name__} is not a "
            "Mixture-of-Experts model: it has no router to balance."
        )
    if not routed:
        return False
    if weight is not None:
        config.router_aux_loss_coef = model.router_aux_loss_coef = weight
    config.output_router_logits = getattr(config, "router_aux_loss_coef", 0.0) != 0.0
    return config.output_router_logits
