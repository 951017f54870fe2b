"""The loss: LM head and cross-entropy in one pass, chunk by chunk, only where labels are.

Where hidden states come from is fused_head.py; how losses of a batch add up is sft_trainer.py.
"""

import sys
from dataclasses import dataclass
from inspect import signature
from types import MethodType
from typing import NamedTuple

import torch
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

CHUNK_BYTES = {"cpu": 24 << 20, "cuda": 512 << 20}


@dataclass(frozen=True)
class LossSpec:
    """What a token costs: the kind of loss, and what the model does to its logits."""

    loss_type: str = "nll"  # or "dft": weighted by the token's own probability
    label_smoothing: float = 0.0
    logit_scale: float = 1.0
    softcap: float | None = None


class TokenSums(NamedTuple):
    """Sums over the trained tokens of a batch; only `loss` carries a gradient."""

    loss: torch.Tensor
    correct: torch.Tensor
    entropy: torch.Tensor
    count: torch.Tensor


def shift_and_select(hidden: torch.Tensor, labels: torch.Tensor):
    """Return the hidden states that predict a trained token, and those tokens."""
    targets = labels[..., 1:].reshape(-1)
    chosen = (targets != -100).nonzero(as_tuple=True)[0]
    states = hidden[..., :-1, :].reshape(-1, hidden.shape[-1])
    return states[chosen], targets[chosen]


def _chunks(count: int, vocabulary: int, device: torch.device) -> int:
    size = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"]) // (4 * vocabulary)
    return max(1, min(count, max(size, 32)))


def _token_terms(logits: torch.Tensor, targets: torch.Tensor, spec: LossSpec):
    """Loss, argmax hits, entropy, probabilities and weights of finished float32 logits.

    One exponential per logit: its row's sum is found again at the largest probability, which is
    never small.
    """
    probabilities = torch.softmax(logits, dim=-1)
    highest = logits.amax(dim=-1)
    total = highest - probabilities.amax(dim=-1).log()
    own = logits.gather(1, targets[:, None])[:, 0]
    hits = own >= highest
    loss, weight = total - own, None
    if spec.label_smoothing:
        even = total - logits.mean(dim=-1)
        loss = (1 - spec.label_smoothing) * loss + spec.label_smoothing * even
    if spec.loss_type == "dft":
        weight = (own - total).exp()
        loss = loss * weight
    entropy = total - torch.linalg.vecdot(probabilities, logits)
    return loss, hits, entropy, probabilities, weight


def _cap(logits: torch.Tensor, spec: LossSpec):
    """Scale and soft-cap; also return the tanh that the gradient needs."""
    if spec.logit_scale != 1.0:
        logits = logits * spec.logit_scale
    if spec.softcap is None:
        return logits, None
    bent = torch.tanh(logits / spec.softcap)
    return bent * spec.softcap, bent


class _FusedHead(torch.autograd.Function):
    """Sum of token losses; the gradient is made in the forward pass, where the logits are."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, spec):
        wants = [
            hidden.requires_grad,
            weight.requires_grad,
            bias is not None and bias.requires_grad,
        ]
        grads = [
            torch.zeros_like(t) if want else None
            for t, want in zip((hidden, weight, bias), wants, strict=True)
        ]
        sums = torch.zeros(3, dtype=torch.float32, device=hidden.device)
        rows = _chunks(len(targets), weight.shape[0], hidden.device)
        matrix = weight.to(hidden.dtype)
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            states, goal = hidden[part], targets[part]
            raw = torch.nn.functional.linear(
                states, matrix, None if bias is None else bias.to(states.dtype)
            )
            logits, bent = _cap(raw.float(), spec)
            loss, hits, entropy, probabilities, weights = _token_terms(logits, goal, spec)
            sums += torch.stack((loss.sum(), hits.sum(), entropy.sum()))
            if any(wants):
                slope = _slope(probabilities, goal, weights, bent, spec).to(hidden.dtype)
                _add_grads(grads, part, slope, states, matrix)
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(hidden_stats := sums[1:].clone())
        return sums[0], hidden_stats

    @staticmethod
    def backward(ctx, grad_loss, _grad_stats):
        grads = [None if g is None else g * grad_loss.to(g.dtype) for g in ctx.saved_tensors]
        return *grads, None, None


def _slope(slope, targets, weights, bent, spec: LossSpec) -> torch.Tensor:
    """Gradient of the summed loss by the raw logits; made in place of the probabilities."""
    if spec.label_smoothing:
        slope -= spec.label_smoothing / slope.shape[1]
    rows = torch.arange(len(targets), device=targets.device)
    slope[rows, targets] -= 1 - spec.label_smoothing
    if weights is not None:
        slope *= weights[:, None]
    if bent is not None:
        slope *= 1 - bent.square()
    return slope.mul_(spec.logit_scale) if spec.logit_scale != 1.0 else slope


def _add_grads(grads, part, slope, states, matrix) -> None:
    for_hidden, for_weight, for_bias = grads
    if for_hidden is not None:
        torch.mm(slope, matrix, out=for_hidden[part])
    if for_weight is not None:
        for_weight += slope.t() @ states
    if for_bias is not None:
        for_bias += slope.sum(0)


def fused_linear_loss(hidden, weight, bias, targets, spec: LossSpec) -> TokenSums:
    """Sum the losses of `targets` given the hidden states that predict them."""
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    with torch.autocast(hidden.device.type, enabled=False):
        loss, stats = _FusedHead.apply(hidden, weight, bias, targets, spec)
    count = torch.tensor(float(len(targets)), device=hidden.device)
    return TokenSums(loss, stats[0], stats[1], count)


def head_module_loss(hidden, head, targets, spec: LossSpec) -> TokenSums:
    """The same through a head that is a module of its own (adapted, quantised), by recomputing."""
    rows = _chunks(len(targets), head_rows(head), hidden.device)
    totals = None
    for start in range(0, max(len(targets), 1), rows):
        part = slice(start, start + rows)
        sums = checkpoint(_head_chunk, hidden[part], head, targets[part], spec, use_reentrant=False)
        totals = sums if totals is None else [a + b for a, b in zip(totals, sums, strict=True)]
    return TokenSums(*totals)


def head_rows(head) -> int:
    """Vocabulary size of a head module."""
    return getattr(head, "out_features", None) or head.weight.shape[0]


def _head_chunk(states, head, targets, spec: LossSpec):
    logits, _ = _cap(head(states).float(), spec)
    return logits_loss(logits, targets, spec)


def logits_loss(logits: torch.Tensor, targets: torch.Tensor, spec: LossSpec) -> TokenSums:
    """Sum the losses given finished logits (N, vocabulary), through autograd."""
    logits = logits.float()
    with torch.no_grad():
        _, hits, entropy, _, weight = _token_terms(logits, targets, spec)
    logp = torch.log_softmax(logits, dim=-1)
    loss = -logp.gather(1, targets[:, None])[:, 0]
    if spec.label_smoothing:
        loss = (1 - spec.label_smoothing) * loss - spec.label_smoothing * logp.mean(dim=-1)
    if weight is not None:
        loss = loss * weight
    count = torch.tensor(float(len(targets)), device=logits.device)
    return TokenSums(loss.sum(), hits.sum().float(), entropy.sum(), count)


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
