"""The loss: LM head and cross-entropy in one pass, chunk by chunk, at trained positions only.

Token losses are summed here; dividing by the tokens of an optimizer step is left to the caller.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from types import MethodType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from trainer_backend.tokens.tokenise import IGNORED
from trainer_backend.training.sft_config import SFTConfig

CHUNK_BYTES = {"cpu": 24 << 20, "cuda": 512 << 20}  # of float32 logits held at a time
KERNEL_BYTES = 256 << 20  # of logits in their own format, which a kernel's gradient overwrites
_kernels: dict[torch.device, Callable[..., None]] = {}
_PLAIN = (Tensor, torch.nn.Parameter)  # a kernel cannot read a weight that is sharded


@dataclass(frozen=True)
class LossSpec:
    """The loss of one token, and what the model does to its logits before the softmax.

    loss_type   "nll", or "dft": nll times the token's own probability, which gets no gradient
                (Dynamic Fine-Tuning, arXiv 2508.05629)
    label_smoothing  weight of the mean loss over the vocabulary (arXiv 1512.00567)
    softcap     logits become softcap * tanh(logits / softcap) (Gemma 2, arXiv 2408.00118)
    """

    loss_type: str = "nll"
    label_smoothing: float = 0.0
    logit_scale: float = 1.0
    softcap: float | None = None

    def held_out(self) -> "LossSpec":
        """That of held-out rows, always plain cross-entropy: comparable between runs."""
        return replace(self, loss_type="nll", label_smoothing=0.0)


class TokenSums(NamedTuple):
    """Float32 scalars, summed over the trained tokens of a batch; only `loss` has a gradient."""

    loss: Tensor
    correct: Tensor  # tokens whose logit is the highest
    entropy: Tensor  # of the predicted distributions, in nats
    trained: Tensor  # number of tokens


def use_kernel(device: torch.device, kernel: Callable[..., None] | None) -> None:
    """Let a kernel compute loss and gradients of a chunk on this device; None: PyTorch does.

    It is called as kernel(logits, targets, terms, logit_scale=, softcap=, label_smoothing=,
    weighted=, writes=), writes [loss, hits, entropy] of each row into `terms` (float32 [3, rows])
    and, if it `writes`, the gradient of the summed loss over the logits.
    """
    if kernel is None:
        _kernels.pop(device, None)
    else:
        _kernels[device] = kernel


def shift_and_select(
    hidden: Tensor, labels: Tensor, chosen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Keep what predicts a trained token; position i predicts the label at i + 1.

    `hidden` [batch, tokens, width] and `labels` [batch, tokens] (-100: not trained) become
    [trained, width] and [trained]. `chosen` [trained] are the places of the trained labels among
    all but the first of each row, flattened; without them, they are asked of the device.
    """
    targets = labels[..., 1:].reshape(-1)
    if chosen is None:
        chosen = (targets != IGNORED).nonzero(as_tuple=True)[0]
    states = hidden[..., :-1, :].reshape(-1, hidden.shape[-1])
    return states[chosen], targets[chosen]


def _chunks(count: int, vocabulary: int, device: torch.device) -> int:
    size = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"]) // (4 * vocabulary)
    return max(1, min(count, max(size, 32)))


def _kernel_chunks(count: int, vocabulary: int, dtype: torch.dtype) -> int:
    size = KERNEL_BYTES // (dtype.itemsize * vocabulary)
    return max(1, min(count, max(size - size % 64, 32)))  # whole tiles of the matrix product


def _token_terms(
    logits: Tensor, targets: Tensor, spec: LossSpec
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Loss, argmax hits, entropy, probabilities and DFT weights of finished float32 logits.

    log-sum-exp is recovered as max(logit) − log(max(p)), so each logit needs one exp.
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


def _cap(logits: Tensor, spec: LossSpec) -> tuple[Tensor, Tensor | None]:
    """Scale and soft-cap; also return the tanh, which the gradient needs."""
    if spec.logit_scale != 1.0:
        logits = logits * spec.logit_scale
    if spec.softcap is None:
        return logits, None
    bent = torch.tanh(logits / spec.softcap)
    return bent * spec.softcap, bent


class _FusedHead(torch.autograd.Function):
    """Sum of token losses; the forward pass makes the gradients while it has the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        spec: LossSpec,
        kept: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        inputs = (hidden, weight, bias)
        wants = [one is not None and one.requires_grad for one in inputs]
        grads = [
            # those of weights are sums over chunks, which bf16 would round; autograd casts them
            torch.zeros_like(t, dtype=t.dtype if t is hidden else torch.float32)
            if want and t is not None
            else None
            for t, want in zip(inputs, wants, strict=True)
        ]
        matrix = weight.to(hidden.dtype)
        kernel = _kernels.get(hidden.device) if type(matrix) in _PLAIN else None
        tensors = (hidden, matrix, bias, targets, kept)
        sums = (
            _by_torch(*tensors, spec, grads)
            if kernel is None
            else _by_kernel(*tensors, spec, grads, kernel)
        )
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(hidden_stats := sums[1:].clone())
        return sums[0], hidden_stats

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _grad_stats: Tensor) -> Any:
        grads = [None if g is None else g * grad_loss.to(g.dtype) for g in ctx.saved_tensors]
        return *grads, None, None, None


def _by_torch(  # noqa: PLR0913 - all that a chunk is cut from
    hidden: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    kept: Tensor | None,
    spec: LossSpec,
    grads: list[Tensor | None],
) -> Tensor:
    """Loss, hits and entropy, summed; what is not None in `grads` gets its gradient."""
    sums = torch.zeros(3, dtype=torch.float32, device=hidden.device)
    rows = _chunks(len(targets), len(matrix), hidden.device)
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        states, goal = hidden[part], targets[part]
        logits, bent = _cap(_raw_logits(states, matrix, bias).float(), spec)
        loss, hits, entropy, probabilities, weights = _token_terms(logits, goal, spec)
        if kept is not None:
            loss, hits, entropy = (one * kept[part] for one in (loss, hits, entropy))
        sums += torch.stack((loss.sum(), hits.sum(), entropy.sum()))
        if any(one is not None for one in grads):
            slope = _slope(probabilities, goal, weights, bent, spec).to(hidden.dtype)
            slope = slope if kept is None else slope.mul_(kept[part, None])
            _add_grads(grads, part, slope, states, matrix)
    return sums


def _by_kernel(  # noqa: PLR0913 - _by_torch()'s and the kernel
    hidden: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    kept: Tensor | None,
    spec: LossSpec,
    grads: list[Tensor | None],
    kernel: Callable[..., None],
) -> Tensor:
    terms = torch.empty(3, len(targets), dtype=torch.float32, device=hidden.device)
    rows = _kernel_chunks(len(targets), len(matrix), hidden.dtype)
    wanted = any(one is not None for one in grads)
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        logits = _raw_logits(hidden[part], matrix, bias)
        kernel(
            logits,
            targets[part],
            terms[:, part],
            logit_scale=spec.logit_scale,
            softcap=spec.softcap,
            label_smoothing=spec.label_smoothing,
            weighted=spec.loss_type == "dft",
            writes=wanted,
        )
        if wanted:
            slope = logits if kept is None else logits.mul_(kept[part, None])
            _add_grads(grads, part, slope, hidden[part], matrix)
    return (terms if kept is None else terms * kept).sum(dim=1)


def _raw_logits(states: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    bias = None if bias is None else bias.to(states.dtype)
    return torch.nn.functional.linear(states, matrix, bias)


def _slope(
    slope: Tensor, targets: Tensor, weights: Tensor | None, bent: Tensor | None, spec: LossSpec
) -> Tensor:
    """Gradient of the summed loss by the raw logits, computed in place of the probabilities."""
    if spec.label_smoothing:
        slope -= spec.label_smoothing / slope.shape[1]
    rows = torch.arange(len(targets), device=targets.device)
    slope[rows, targets] -= 1 - spec.label_smoothing
    if weights is not None:
        slope *= weights[:, None]
    if bent is not None:
        slope *= 1 - bent.square()
    return slope.mul_(spec.logit_scale) if spec.logit_scale != 1.0 else slope


def _add_grads(
    grads: list[Tensor | None], part: slice, slope: Tensor, states: Tensor, matrix: Tensor
) -> None:
    for_hidden, for_weight, for_bias = grads
    if for_hidden is not None:
        torch.mm(slope, matrix, out=for_hidden[part])
    if for_weight is not None:
        for_weight += slope.t() @ states
    if for_bias is not None:
        for_bias += slope.sum(0)


def fused_linear_loss(  # noqa: PLR0913 - a head, its input and its loss
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    spec: LossSpec,
    ignores: bool = False,
) -> TokenSums:
    """LM head and cross-entropy without the full logits, summed over the tokens.

    `hidden` [tokens, hidden] are the states that predict `targets` [tokens] (int64 ids; -100 counts
    for nothing, only with `ignores`), `weight` [vocabulary, hidden] and `bias` [vocabulary] the
    head. Products run in the dtype of `hidden` (under autocast in autocast's), the rest in float32.

    As in Liger Kernel (arXiv 2410.10989) and Cut Cross-Entropy (arXiv 2411.09009), at most
    CHUNK_BYTES of logits exist at a time (with use_kernel(), KERNEL_BYTES), and their gradients
    are made with them. On a CPU torch.nn.functional.linear_cross_entropy was 2.7 (float32) to 3.6
    (bf16) times slower in chunks, and it has neither DFT, soft-capping nor accuracy.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    kept, targets = (targets != IGNORED, targets.clamp(min=0)) if ignores else (None, targets)
    with torch.autocast(hidden.device.type, enabled=False):
        loss, stats = _FusedHead.apply(hidden, weight, bias, targets, spec, kept)
    count = torch.full((), float(len(targets)), device=hidden.device)
    count = count if kept is None else kept.sum().float()
    return TokenSums(loss, stats[0], stats[1], count)


def head_module_loss(
    hidden: Tensor, head: torch.nn.Module, targets: Tensor, spec: LossSpec
) -> TokenSums:
    """fused_linear_loss() for a head that is not a plain Linear (adapted, quantised).

    The logits of a chunk are computed again in the backward pass, through the module.
    """
    vocabulary = getattr(head, "out_features", None) or cast(Tensor, head.weight).shape[0]
    rows = _chunks(len(targets), vocabulary, hidden.device)
    totals: TokenSums | None = None
    for start in range(0, max(len(targets), 1), rows):
        part = slice(start, start + rows)
        sums = checkpoint(_head_chunk, hidden[part], head, targets[part], spec, use_reentrant=False)
        pairs = None if totals is None else zip(totals, sums, strict=True)
        totals = sums if pairs is None else TokenSums(*(a + b for a, b in pairs))
    assert totals is not None
    return totals


def _head_chunk(
    states: Tensor, head: torch.nn.Module, targets: Tensor, spec: LossSpec
) -> TokenSums:
    logits, _ = _cap(head(states).float(), spec)
    return logits_loss(logits, targets, spec)


def logits_loss(logits: Tensor, targets: Tensor, spec: LossSpec) -> TokenSums:
    """The sums for finished logits [tokens, vocabulary] and `targets` [tokens], by autograd."""
    logits = logits.float()
    with torch.no_grad():
        _, hits, entropy, _, weight = _token_terms(logits, targets, spec)
    logp = torch.log_softmax(logits, dim=-1)
    loss = -logp.gather(1, targets[:, None])[:, 0]
    if spec.label_smoothing:
        loss = (1 - spec.label_smoothing) * loss - spec.label_smoothing * logp.mean(dim=-1)
    if weight is not None:
        loss = loss * weight
    count = torch.full((), float(len(targets)), device=logits.device)
    return TokenSums(loss.sum(), hits.sum().float(), entropy.sum(), count)


def model_logits_loss(
    logits: Tensor, labels: Tensor, spec: LossSpec, chosen: Tensor | None = None
) -> TokenSums:
    """The sums for a model's logits [batch, tokens, vocabulary] and labels [batch, tokens].

    Virtual tokens of prompts may come first; `chosen` as for shift_and_select().
    """
    own = logits[:, -labels.shape[1] :]
    return logits_loss(*shift_and_select(own, labels, chosen), spec)


# The fused loss as part of a model's forward pass


@dataclass
class FusedOutput(ModelOutput):
    """TokenSums as the output of a model, with the router loss of a mixture of experts."""

    loss: Tensor | None = None
    correct: Tensor | None = None
    entropy: Tensor | None = None
    trained: Tensor | None = None
    aux_loss: Tensor | None = None


def install_fused_head(model: PreTrainedModel, spec: LossSpec) -> None:
    """Let `model(..., labels=..., fused_loss=True)` return a FusedOutput; other calls as before.

    A method is replaced on the instance because the class is one of hundreds in transformers. DDP,
    FSDP and accelerate hook the model's own forward, so the loss must come from it; a wrapping
    module would rename every weight in the checkpoints.
    """

    def forward(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        return _forward(self, spec, *args, **kwargs)

    # generate() reads from the signature which arguments a model takes (pixel_values). A
    # __wrapped__ instead would be followed by accelerate, which then loses this forward
    forward.__signature__ = signature(type(model).forward)  # type: ignore[attr-defined]  # PEP 362
    model.forward = MethodType(forward, model)


def _forward(
    self: PreTrainedModel, spec: LossSpec, *args: Any, fused_loss: bool = False, **kwargs: Any
) -> Any:
    if not fused_loss:
        return type(self).forward(self, *args, **kwargs)
    labels, chosen = kwargs.pop("labels"), kwargs.pop("trained_at", None)
    ignores = kwargs.pop("some_ignored", False)
    spec = spec if self.training else spec.held_out()
    routed = uses_router(self)
    if routed:
        kwargs["output_router_logits"] = True
    outputs = self.base_model(*args, **{**kwargs, "use_cache": False})
    sums = head_loss(self, outputs[0], labels, spec, chosen, ignores)
    aux = router_loss(self, outputs.router_logits, kwargs.get("attention_mask")) if routed else None
    return FusedOutput(*sums, aux_loss=aux)


def head_loss(  # noqa: PLR0913 - a model's output and its loss
    model: PreTrainedModel,
    hidden: Tensor,
    labels: Tensor,
    spec: LossSpec,
    chosen: Tensor | None = None,
    ignores: bool = False,
) -> TokenSums:
    """The sums for last hidden states [batch, tokens, hidden] and labels [batch, tokens].

    `chosen`: places of the trained labels, as for shift_and_select(); with `ignores`, which needs a
    plain head, some of them may be untrained.
    """
    states, targets = shift_and_select(hidden, labels, chosen)
    head = model.get_output_embeddings()
    if not has_plain_head(model):
        assert not ignores
        return head_module_loss(states, head, targets, spec)
    return fused_linear_loss(states, head.weight, head.bias, targets, spec, ignores)


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether logits are made by an ordinary linear layer, without an adapter and in full bits."""
    head = model.get_output_embeddings()
    return type(head) is torch.nn.Linear and not (head._forward_hooks or head._forward_pre_hooks)


def uses_router(model: PreTrainedModel) -> bool:
    """Whether the model is a mixture of experts whose load-balancing loss is switched on."""
    return bool(getattr(model.config.get_text_config(), "output_router_logits", False))


def router_loss(
    model: PreTrainedModel, router_logits: tuple[Tensor, ...], attention_mask: Tensor | None
) -> Tensor:
    """The load-balancing loss by the model's own formula, a scalar."""
    balance = sys.modules[type(model).__module__].load_balancing_loss_func
    config = model.config.get_text_config()  # where vision models have the numbers below
    experts = getattr(model, "num_experts", None) or config.num_experts
    chosen = getattr(model, "num_experts_per_tok", None) or config.num_experts_per_tok
    return balance(router_logits, experts, chosen, attention_mask)


def balance_router(model: PreTrainedModel, args: SFTConfig) -> bool:
    """Switch the load-balancing loss on or off by `router_aux_loss_coef`; returns whether it is on.

    Raises ValueError when a weight is set and the model is no mixture of experts.
    """
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
        config.router_aux_loss_coef = weight
        model.router_aux_loss_coef = weight  # type: ignore[assignment]  # torch expects a module
    config.output_router_logits = getattr(config, "router_aux_loss_coef", 0.0) != 0.0
    return config.output_router_logits
