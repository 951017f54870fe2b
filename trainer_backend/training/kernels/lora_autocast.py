"""Settles how the LoRA layers of a run compute: in groups, and inside or outside autocast.

Both are tried on the model itself, on the device that trains, and said in one sentence.
"""

from collections.abc import Callable

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor

from trainer_backend.models.loaded.pretrained import AnyModel, input_embedding
from trainer_backend.training.kernels.attention import document_layout
from trainer_backend.training.kernels.lora import QuickLora
from trainer_backend.training.sft_config import SFTConfig

_LENGTHS = (9, 12, 7)  # tokens of the documents that are tried
_SAME = 1e-2  # relative error of gradients, where all hidden states are equal to the bit
_NOISE = {torch.float32: 5e-3, torch.bfloat16: 0.2, torch.float16: 0.2}  # of another order of sums
_REFUSALS = (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError, KeyError)


def settle_lora(
    quick: QuickLora | None, model: AnyModel, args: SFTConfig, tell: Callable[[str], None]
) -> None:
    """Form the groups that earlier forward passes showed, and leave autocast where it does nothing.

    Autocast is left inside the decoder when its hidden states in bf16 are equal to the bit without
    it, and the gradients of the adapter to 1 %. On a GPU the layers are first compared with peft's,
    which compute everything if ours differ. `tell` is given a sentence on what was found.
    """
    if quick is None or not quick.layers:
        return
    sharded = _is_sharded(model, args)
    kinds = quick.groups.settle(form=not sharded)
    halved = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    on_gpu = args.device.type == "cuda"
    if on_gpu and not sharded and quick.decoder and not agrees_with_peft(quick, model, halved):
        quick.off = True
        tell("LoRA: computed by peft, because the quick product differs on this device.")
        return
    if _is_plain_bf16(quick, model, args) and leaving_autocast_agrees(quick, model):
        quick.spares = torch.bfloat16
    sentence = _sentence(kinds, bool(args.bf16), quick.spares is not None)
    if sentence:
        tell(sentence)


def _sentence(kinds: list[tuple[str, ...]], half: bool, spares: bool) -> str:
    parts = ["adapters are cast to bf16 once a forward pass"] if half else []
    parts += ["products run in bf16 without autocast"] if spares else []
    if kinds:
        shared = " and ".join(", ".join(names) for names in kinds)
        parts.append(f"layers with a common input share their A product ({shared})")
    return f"LoRA: {'; '.join(parts)}." if parts else ""


def _is_sharded(model: torch.nn.Module, args: SFTConfig) -> bool:
    devices = {p.device for p in model.parameters()}
    return bool(args.fsdp or getattr(args, "deepspeed_plugin", None)) or len(devices) > 1


def _is_plain_bf16(quick: QuickLora, model: AnyModel, args: SFTConfig) -> bool:
    """Whether all that learns are quick LoRA layers over a decoder held in bf16."""
    if not args.bf16 or quick.decoder is None or _is_sharded(model, args):
        return False
    own = {id(w) for layer in quick.layers for w in _weights(layer)}
    learning = [w for w in model.parameters() if w.requires_grad]
    frozen = [w for w in quick.decoder.parameters() if not w.requires_grad]
    return (
        isinstance(model, PeftModel)
        and args.device.type in ("cpu", "cuda")
        and all(id(w) in own for w in learning)
        and all(w.dtype == torch.bfloat16 for w in frozen if w.is_floating_point())
    )


def _weights(layer: LoraLinear) -> list[Tensor]:
    return [*layer.lora_A.parameters(), *layer.lora_B.parameters()]


def leaving_autocast_agrees(quick: QuickLora, model: AnyModel) -> bool:
    """Whether the decoder computes the same with and without bf16 autocast, tried on 28 tokens."""
    before = quick.spares
    try:
        quick.spares = None
        usual, slopes = _tried(quick, model, torch.bfloat16)
        quick.spares = torch.bfloat16
        left, others = _tried(quick, model, torch.bfloat16)
    except _REFUSALS:
        return False
    finally:
        quick.spares = before
    same = usual.dtype == left.dtype and torch.equal(usual, left)
    return same and _is_near(others, slopes, _SAME)


def agrees_with_peft(quick: QuickLora, model: AnyModel, halved: torch.dtype | None) -> bool:
    """Whether hidden states and gradients are those of peft's own layers, tried on 28 tokens.

    `halved` is the dtype of autocast, None without it.
    """
    try:
        states, slopes = _tried(quick, model, halved)
        quick.off = True
        usual, wanted = _tried(quick, model, halved)
    except _REFUSALS:
        return False
    finally:
        quick.off = False
    noise = _NOISE.get(halved or usual.dtype, 0.0)
    return _is_near(states.float(), usual.float(), noise) and _is_near(slopes, wanted, noise)


def _is_near(found: Tensor, wanted: Tensor, noise: float) -> bool:
    return bool((found - wanted).norm() <= noise * wanted.norm())


def _tried(quick: QuickLora, model: AnyModel, halved: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """Last hidden states of packed documents, and the gradients of all adapters as one vector."""
    assert quick.decoder is not None
    embedding = input_embedding(model)
    device, vocabulary = embedding.device, len(embedding)
    ids = torch.arange(sum(_LENGTHS), device=device)[None] * 37 % vocabulary
    positions = torch.cat([torch.arange(n, device=device) for n in _LENGTHS])[None]
    learning = [w for layer in quick.layers for w in _weights(layer) if w.requires_grad]
    spared = [device] if device.type == "cuda" else []
    was_training = model.training
    model.train()
    try:
        with torch.random.fork_rng(spared), torch.enable_grad(), document_layout(_LENGTHS):
            torch.manual_seed(0)  # the same dropout in both
            with torch.autocast(device.type, halved, enabled=halved is not None):
                found = quick.decoder(input_ids=ids, position_ids=positions, use_cache=False)
            states = found[0]
            weights = torch.sin(torch.arange(states.numel(), device=device)).view_as(states)
            total = (states.float() * weights).sum()
            slopes = torch.autograd.grad(total, learning, allow_unused=True)
    finally:
        model.train(was_training)
    return states.detach(), torch.cat([s.flatten().float() for s in slopes if s is not None])
