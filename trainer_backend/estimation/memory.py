"""The peak memory of a run by a formula: what our trainer holds, part by part and phase by phase.

Nothing is measured and nothing refused here; the run itself checks again before its first step.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from trainer_backend.errors import UserError
from trainer_backend.estimation.plan import Plan
from trainer_backend.estimation.setup import Setup as Setup
from trainer_backend.estimation.shape import Shape
from trainer_backend.evaluation.limits import KEYS_SHARE, ROWS_AT_ONCE
from trainer_backend.hardware import GIB
from trainer_backend.recipe import Recipe
from trainer_backend.recipe.adapter_parts import parse_layers, parse_names
from trainer_backend.tokens.packing import filled_length

WEIGHT_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}
GRADIENT_BYTES = 4
# optimizer state in bytes per trainable weight
OPTIMIZER_BYTES = {"adamw_torch": 8, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "adafactor": 1}
PARTS = ("weights", "adapter", "optimizer", "gradients", "activations", "logits", "other")

LOGIT_CHUNK = {"cpu": 24 << 20, "cuda": 512 << 20}  # bytes of float32 logits held at a time
QUANTIZED_BYTES = {"int8": 1.01, "int4": 0.52}  # with the scales of their blocks
# bytes that no weight and no text explains, measured: on a CPU the process with its libraries
# (0.56 GiB) and what the first products allocate; on a GPU the context and workspaces
FIXED = {"cpu": int(0.68 * GIB), "mps": int(0.9 * GIB), "cuda": int(0.5 * GIB)}
# How much larger the heap of a CPU process becomes than the tensors in it (measured 1.0 to 1.35),
# also where weights are unpacked for each product
HEAP, HEAP_QUANTIZED = 1.2, 1.45
# GiB by which a CPU process grows in its first steps, and once more with answers: code and buffers
# for each length of a batch (measured, with rows of different lengths)
GROWS, GROWN_AFTER, ANSWERS_GROW = {"half": 0.24, "float": 0.1}, 10, 0.15
READ_WHOLE = 3.5  # bytes a weight while a model is read and quantized on a CPU
UPDATE_BYTES = {"adamw_torch": 8, "adafactor": 16}  # of the largest tensor, while it is updated
UPDATE_8BIT = 24  # on a CPU its state is unpacked
LAYERS_APART = 4  # what one layer needs in the backward pass, scattered between its gradients
REUSED = 0.5  # share of freed activations whose place gradients and optimizer take on a CPU
TILE = 4096  # tokens that norms and multi-layer perceptrons of a long row take at once
ON_THE_WAY = 4  # inputs of layers on the GPU while the others wait in main memory
STATE_SIZE = 16  # of a state-space layer


def optimizer_bytes(weights: int, recipe: Recipe) -> int:
    """Bytes of optimizer state for a number of trainable weights."""
    return weights * OPTIMIZER_BYTES.get(recipe.optim, 8)


@dataclass(frozen=True)
class Trained:
    """Weights that learn, by where they are."""

    adapter: int  # weights of LoRA matrices
    copied: int  # of modules trained whole beside an adapter
    base: int  # of the base model itself (full training)
    head: bool  # the head learns

    @property
    def weights(self) -> int:
        return self.adapter + self.copied + self.base


def trained_weights(shape: Shape, recipe: Recipe) -> Trained:
    """How many weights a recipe trains."""
    if recipe.adapter == "full":
        return Trained(0, 0, shape.parameters, True)
    layers = len(chosen_layers(recipe.layers_to_transform, shape.layers))
    each = sum(
        recipe.lora_r * (wide + out) + (out if recipe.use_dora else 0)
        for _, wide, out in targeted(shape, recipe)
    )
    copied, head = 0, False
    for name in parse_names(recipe.modules_to_save):
        if name in ("lm_head", "embed_out", "output", "embed_tokens", "wte", "embed_in"):
            copied += shape.vocabulary * shape.hidden
            head = head or name in ("lm_head", "embed_out", "output") or shape.tied
        else:
            found = [wide * out for one, wide, out in shape.linear if _matches(one, name)]
            copied += shape.layers * sum(found)
    return Trained(layers * each, copied, 0, head)


def targeted(shape: Shape, recipe: Recipe) -> tuple[tuple[str, int, int], ...]:
    """The linear modules of a layer that get an adapter; all of them for unknown names."""
    if recipe.lora_target_modules.strip() == "all-linear":
        return shape.linear
    names = parse_names(recipe.lora_target_modules)
    chosen = tuple(one for one in shape.linear if any(_matches(one[0], name) for name in names))
    return chosen or shape.linear


def _matches(module: str, name: str) -> bool:
    ours, theirs = module.split(".")[-1], name.split(".")[-1]
    return ours == theirs


def chosen_layers(text: str, layers: int) -> list[int]:
    """The layers that a recipe names, of those that there are; every layer for a text of none."""
    try:
        named = parse_layers(text)
    except UserError:
        named = []
    return [one for one in named if one < layers] or list(range(layers))


def in_parts(setup: Setup, whole: Plan, parts: int) -> Setup:
    """The setup of a merged step in so many parts of equal tokens; no row is divided.

    `whole` is the plan with all rows of a step in one batch.
    """
    recipe, plan = setup.recipe, setup.plan
    rows = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
    tokens = max(math.ceil(whole.longest_batch / parts), whole.longest_row)
    tokens = filled_length(tokens) if whole.filler else tokens
    drawn, learned = drawn_batch(whole)
    learned = round(tokens * learned / max(drawn, 1))
    plan = replace(
        plan,
        micro_batches=min(plan.micro_batches, parts),
        longest_batch=tokens,
        longest_trained=learned,
        drawn_batch=min(tokens, drawn),
        filler=whole.filler if parts == 1 else plan.filler,
    )
    recipe = replace(
        recipe,
        per_device_train_batch_size=math.ceil(rows / parts),
        gradient_accumulation_steps=parts,
    )
    return replace(setup, recipe=recipe, plan=plan, parts=parts)


def peak_memory(setup: Setup) -> dict[str, float]:
    """Bytes of each part at the run's peak: on one GPU, or of all its processes on a CPU."""
    phases = [*_phases(setup)]
    peak = max(phases, key=lambda parts: sum(parts.values()))
    copies = setup.processes if setup.device != "cuda" else 1
    return {name: peak.get(name, 0.0) * copies for name in PARTS}


def _phases(setup: Setup) -> Iterator[dict[str, float]]:
    """The parts in each phase that may be the peak."""
    plan, trained = setup.plan, trained_weights(setup.shape, setup.recipe)
    held = _held(setup, trained)
    yield _loading(setup)
    yield held | _forward(setup, trained, plan.longest_batch, plan.longest_trained)  # preflight
    held = held | {"optimizer": _optimizer(setup, trained)}
    tokens, learned = drawn_batch(plan)
    gradients = _gradients(setup, trained)
    forward = _forward(setup, trained, tokens, learned)
    if setup.recipe.gradient_accumulation_steps > 1:
        forward["gradients"] += gradients  # those of the batches before
    update = _update(setup, forward, tokens) | {"gradients": gradients}
    for parts in (forward, update, _evaluation(setup, trained)):
        yield _grown(setup, held | parts)
    if plan.answer_rows:  # in a heap that training has taken and holds
        for parts in (forward, _answering(setup)):
            yield _grown(setup, held | parts, ANSWERS_GROW)


def _grown(setup: Setup, parts: dict[str, float], more: float = 0.0) -> dict[str, float]:
    """The parts of a phase after some steps: on a CPU each new length of a batch leaves some."""
    if setup.device == "cuda":
        return parts
    grows = GROWS["half" if setup.half else "float"]
    steps = setup.plan.steps or GROWN_AFTER  # 0: not known
    grown = grows * min(1.0, steps / GROWN_AFTER) + more
    return parts | {"other": parts["other"] + grown * GIB}


def drawn_batch(plan: Plan) -> tuple[int, int]:
    """Tokens and learned tokens of the largest micro-batch after the first optimizer step.

    The longest batch of all is tried before there is optimizer state.
    """
    tokens = plan.drawn_batch or plan.longest_batch
    share = plan.longest_trained / max(plan.longest_batch, 1)
    return tokens, round(tokens * share)


def _held(setup: Setup, trained: Trained) -> dict[str, float]:
    """What lies in memory during the whole training."""
    each = 2 if setup.quantized and setup.recipe.precision != "fp16" else 4
    return {
        "weights": weight_bytes(setup) / setup.shards,
        "adapter": (trained.adapter + trained.copied) * each / setup.shards,
        "other": _held_other(setup),
    }


def weight_bytes(setup: Setup) -> float:
    """Bytes of the base model in memory."""
    shape, stored = setup.shape, setup.stored
    if setup.full:
        return 4.0 * shape.parameters
    if setup.bits is not None:
        if stored is not None and stored.fixed_bytes:
            return stored.fixed_bytes + stored.numbers * setup.width
        return shape.body * setup.bits / 8 * 1.04 + (shape.embedding + shape.other) * setup.width
    if setup.quantized:
        packed = shape.body + shape.other
        return packed * QUANTIZED_BYTES[setup.recipe.precision] + shape.embedding * setup.width
    return shape.parameters * WEIGHT_BYTES[setup.recipe.precision]


def _loading(setup: Setup) -> dict[str, float]:
    """The model while its files are read: on a CPU their pages count until it is converted."""
    weights, reads = weight_bytes(setup), 0.0
    if setup.quantized and setup.bits is None and setup.device != "cuda":
        weights = max(weights, READ_WHOLE * setup.shape.parameters)  # quantized once it is read
    if setup.device != "cuda" and setup.stored is not None:
        reads = float(setup.stored.file_bytes)
        if weights == reads:
            reads = 0.0  # used as they are
    return {"weights": weights, "other": FIXED[setup.device] * 0.8 + reads}


def _optimizer(setup: Setup, trained: Trained) -> float:
    """Bytes of the optimizer's state. AdamW keeps two averages in the format of the weight."""
    weights, recipe = trained.weights / setup.shards, setup.recipe
    if recipe.optim == "adafactor":
        return 0.1 * weights  # factored: a row and a column of each matrix
    if recipe.optim == "adamw_torch":
        return weights * (4 if setup.quantized else 8)
    return float(optimizer_bytes(int(weights), recipe))


def _gradients(setup: Setup, trained: Trained) -> float:
    each = 2 if setup.quantized else GRADIENT_BYTES
    buckets = 2 if setup.processes > 1 and setup.shards == 1 else 1  # DDP sends copies
    return trained.weights * each * buckets / setup.shards


def _forward(setup: Setup, trained: Trained, tokens: int, learned: int) -> dict[str, float]:
    """Activations and logits when the loss has been computed, before the backward pass."""
    shape, recipe = setup.shape, setup.recipe
    layer, offloads = layer_bytes(setup) * tokens, setup.offloads
    kept = float(shape.hidden * setup.stream * tokens)  # the input of a layer
    if recipe.gradient_checkpointing:
        activations = kept * (ON_THE_WAY if offloads else shape.layers)
        activations += tiled_layer_bytes(setup, tokens) if setup.tiled else layer
    elif offloads:
        activations = 2 * layer
    else:
        activations = shape.layers * layer
    activations += tokens * shape.hidden * (4 + 2 * setup.stream)  # embedding and last norm
    activations += 0.0 if setup.tiled else _transient(setup) * tokens
    return {
        "activations": activations * _heap(setup) + _cast_weights(setup),
        "logits": logit_bytes(setup, learned, setup.full or trained.head),
        "gradients": 0.0,
    }


def _heap(setup: Setup) -> float:
    """The share by which many freed and kept tensors enlarge the heap of a process."""
    if setup.device == "cuda":
        return 1.0
    return HEAP_QUANTIZED if setup.quantized else HEAP


def _update(setup: Setup, forward: dict[str, float], tokens: int) -> dict[str, float]:
    """The end of the backward pass and the optimizer step: all gradients are there.

    On a CPU what the activations have taken is not all used again.
    """
    shape = setup.shape
    largest = max((wide * out for _, wide, out in shape.linear), default=0)
    left = (layer_bytes(setup) + _transient(setup)) * tokens
    left = tiled_layer_bytes(setup, tokens) if setup.tiled else left
    if setup.device != "cuda":
        apart = LAYERS_APART if setup.full else 1
        left = max(apart * left, (1 - REUSED) * forward["activations"])
    if setup.full:
        largest = max(largest, shape.vocabulary * shape.hidden)
        other = _held_other(setup) + largest * UPDATE_BYTES.get(setup.recipe.optim, UPDATE_8BIT)
        return {"activations": left, "logits": 0.0, "other": other}
    return {"activations": left + largest * setup.width, "logits": 0.0}


def _held_other(setup: Setup) -> float:
    return float(FIXED[setup.device])


def _cast_weights(setup: Setup) -> float:
    """16-bit copies that autocast makes of float32 weights, kept for the backward pass."""
    if setup.full and setup.half:
        return 2.0 * setup.shape.body / (setup.shape.layers if setup.shards > 1 else 1)
    if setup.quantized:  # one matrix at a time is unpacked
        largest = max((wide * out for _, wide, out in setup.shape.linear), default=0)
        return 2.0 * largest * setup.width
    return 0.0


def layer_bytes(setup: Setup) -> float:
    """Bytes that one layer keeps of one token for the backward pass.

    Norms keep their input in float32, attention its queries, keys, values and output, the gate what
    it multiplies, and each trained matrix its input.
    """
    shape, width = setup.shape, setup.width
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    inner = shape.chosen_width or shape.intermediate
    norms = 2 * 4 * shape.hidden * (2 if setup.full else 1)
    attention: float = width * (2 * queries + 2 * keys)
    if not shape.heads:  # a state-space layer scans with float32 states
        attention = 3 * 4 * shape.intermediate * STATE_SIZE
    if shape.attends_in_full:
        attention += 12 * shape.heads * setup.plan.row_tokens + 12 * queries - 2 * width * queries
    copies = 3 if shape.gated else 4 if shape.written_out else 1
    return norms + attention + copies * width * inner + _inputs(setup, queries, inner)


def tiled_layer_bytes(setup: Setup, tokens: int) -> float:
    """Bytes of one layer that is computed again and gone back through, its long row in tiles.

    Of every token: the gradient of its output and of what lies between attention and perceptron,
    both normed states, queries, keys, values and the attention's output with their gradients, and
    what the attention's backward pass adds up (float32, keys and values a head). Of a tile: all.
    """
    shape, width = setup.shape, setup.width
    tile = min(tokens, TILE) * (layer_bytes(setup) + _transient(setup))
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if not shape.heads or shape.attends_in_full:
        return layer_bytes(setup) * tokens  # nothing is known to be saved
    states = 3 * setup.stream * shape.hidden + 2 * width * shape.hidden
    attention = width * (2 * queries + 2 * keys) + width * (2 * queries + 2 * keys)
    summed = 4 * queries + 2 * width * queries
    return tokens * (states + attention + summed) + tile


def _inputs(setup: Setup, queries: int, inner: int) -> float:
    """Bytes of one token that the trained matrices of a layer keep of their inputs."""
    shape, recipe, width = setup.shape, setup.recipe, setup.width
    if setup.full:
        return width * (2 * shape.hidden + inner)
    modules = targeted(shape, recipe)
    layers = len(chosen_layers(recipe.layers_to_transform, shape.layers)) / shape.layers
    low = sum(recipe.lora_r * width for _ in modules)
    if shape.transposed:
        read: float = sum(wide * 4 for _, wide, _ in modules)
    elif setup.quantized and setup.device != "cuda":
        read = sum(wide * 2 for _, wide, _ in modules)  # each casts its input to bf16
    elif recipe.lora_dropout:
        mask = 1 if setup.device == "cuda" else width
        read = sum(wide * (width + mask) for _, wide, _ in modules)
    else:
        sizes = {wide for _, wide, _ in modules}  # modules with one input share it
        shared = (2 if len(modules) > 4 else 1) * shape.hidden
        read = width * (shared + (inner if inner in sizes else 0))
    if recipe.use_dora:  # scales what both paths give, in several operations
        read += sum((wide + 2 * out) * width for _, wide, out in modules)
    return (read + low) * layers


def _transient(setup: Setup) -> float:
    """Bytes of one token that the backward pass of a layer needs beside what was kept."""
    shape = setup.shape
    inner = shape.chosen_width or shape.intermediate
    return 3 * setup.width * inner + 3 * 4 * shape.hidden


def logit_bytes(setup: Setup, learned: int, trains_head: bool) -> float:
    """Bytes of the loss: chunks of logits, states at learned tokens, gradients of the head."""
    shape, width = setup.shape, setup.width
    most = max(LOGIT_CHUNK.get(setup.device, LOGIT_CHUNK["cuda"]) // (4 * shape.vocabulary), 32)
    rows = max(1, min(learned, most))
    chunk = rows * shape.vocabulary * (20 if setup.half else 16)
    states = 2 * learned * shape.hidden * width
    head = shape.vocabulary * shape.hidden
    casts = head * 2 if setup.half and setup.stream == 4 else 0
    return chunk + states + casts + (8 * head if trains_head else 0)


def _evaluation(setup: Setup, trained: Trained) -> dict[str, float]:
    """The longest batch of held-out rows, without gradients."""
    plan = setup.plan
    if not plan.eval_runs:
        return {}
    width, shape = setup.width, setup.shape
    inner = shape.chosen_width or shape.intermediate
    tokens = plan.eval_batch
    activations = tokens * (3 * width * inner + 6 * width * shape.hidden)
    return {
        "activations": activations + _cast_weights(setup),
        "logits": logit_bytes(setup, plan.eval_learned, setup.full),
    }


def _answering(setup: Setup) -> dict[str, float]:
    """Both models write answers: keys and values, and for full and PiSSA a second model."""
    plan, shape = setup.plan, setup.shape
    batch = min(plan.answer_rows, ROWS_AT_ONCE)
    each = 2 * shape.layers * shape.kv_heads * shape.head_dim * setup.stream
    cache = batch * (1.5 * plan.prompt_tokens + plan.answer_limit) * each
    left = setup.machine.memory_free * GIB - weight_bytes(setup)  # fewer rows where it is little
    parts = {
        "activations": 1.2 * min(cache, KEYS_SHARE * max(0.0, left)),
        "logits": batch * shape.vocabulary * 8.0,
    }
    if setup.full or setup.recipe.init_lora_weights == "pissa":
        alone = replace(setup, recipe=replace(setup.recipe, adapter="lora"))
        parts["weights"] = weight_bytes(setup) + weight_bytes(alone)
    return parts
