"""What the phases of a run cost on a device, by counting its operations and its memory traffic.

All constants of the model of time are here. What earlier runs really took is not known here.
"""

from dataclasses import dataclass

from trainer_backend.estimation.device import Rates
from trainer_backend.estimation.plan import Plan
from trainer_backend.estimation.shape import Shape
from trainer_backend.evaluation.limits import ROWS_AT_ONCE
from trainer_backend.recipe import Recipe

GIGA = 1e9

# A process and its files. Seconds, or 10⁹ bytes a second of one core.
START_S = 5.5  # loading torch, transformers, peft
OPEN_MODEL_S = 0.6  # tokenizer and templates
PROBED = 0.12  # 10⁹ weights a second: what the model can do is tried with a few tokens
HASHED, READ = 1.5, 1.0
QUANTIZED = 0.05  # 10⁹ weights a second, in 4 or 8 bits
ROW_S, TOKENS_S = 3e-4, 2.5e5  # a row through its chat template; tokens a second
TRIAL_S = 0.5
FIRST = 1.5  # times a usual pass: memory is touched, kernels are chosen
SAVE_S = 0.1  # a checkpoint's small files: tokenizer, settings, model card
WRITTEN = 0.6
EVALUATE_S = 0.15  # an evaluation without its passes

# Products. Share of the measured rate that the layers of a model reach.
REACHED = {"cpu": 0.72, "cuda": 0.85, "mps": 0.6}
HALF_REACHED = {"cpu": 0.78}  # of that in bf16 or fp16: casts and small products weigh more
WITH_ADAPTER = {"cuda": 0.8}  # of that: the small products of an adapter lie between them
# bytes of memory traffic per token and layer, for each number of (hidden + intermediate):
# norms, casts, activations, residuals, in forward and backward
TRAFFIC = {"half": 200.0, "fp32": 280.0}
FORWARD_TRAFFIC = 0.33  # share of the forward pass alone
CHECKPOINT = 1.1  # a second forward pass, and what it keeps
LOGIT_BYTES = 60.0  # of one logit: softmax, entropy, in fp32 and the computing format
SLOPE_BYTES = 20.0  # of one logit in training: its gradient
# Unpacking stored weights before a product: 10⁹ weights a second
UNPACKED = {"int4": {"cpu": 0.5, "cuda": 100.0}, "int8": {"cpu": 1.0, "cuda": 100.0}}
# Operations that one layer of one micro-batch starts, and seconds each takes the processor
KERNELS = {"lora": 228.0, "qlora": 322.0, "full": 165.0}
FORWARD_KERNELS = 0.33
LAUNCH_S = {"cpu": 8e-6, "cuda": 5e-5, "mps": 5e-5}
# an optimizer step without its arithmetic (curves, state); on a GPU it is among the launches
STEP_S = {"cpu": 0.02, "cuda": 0.0, "mps": 0.0}
OPTIMIZER_BYTES = {"adamw_torch": 60.0, "adafactor": 80.0}  # per trained weight; 8-bit ones: 40
# Answers
TOKEN_S, LAYER_S = 0.004, 7e-4  # that one token takes the processor, in all and for each layer
UNENDING = 0.8  # of its rows that the base model does not end before the limit, on average
ADAPTED = 1.8  # times, with an adapter
FEW_ROWS = {"cpu": 0.35}  # share of the usual product rate, with one token a row


@dataclass(frozen=True)
class Work:
    """What is priced: a model, settings without “auto”, and the device that trains."""

    shape: Shape
    recipe: Recipe
    rates: Rates
    kind: str  # "cuda", "mps" or "cpu"
    devices: int = 1  # that share the tokens of a step; cores of a CPU count as one

    @property
    def is_full(self) -> bool:
        return self.recipe.adapter == "full"

    @property
    def stored_bits(self) -> str | None:
        """ "int4" or "int8" where the base model is stored quantized."""
        return self.recipe.precision if self.recipe.precision in UNPACKED else None

    @property
    def computes_in(self) -> str:
        """The number format of the products."""
        if self.stored_bits:
            return "fp32" if self.kind == "cpu" else "bf16"
        return self.recipe.precision

    @property
    def adapter_weights(self) -> float:
        """Trained weights of an adapter on every linear module."""
        each = sum(rows + columns for _, rows, columns in self.shape.linear)
        return float(self.shape.layers * each * self.recipe.lora_r)

    @property
    def trained(self) -> float:
        return float(self.shape.parameters) if self.is_full else self.adapter_weights


def phase_seconds(work: Work, plan: Plan) -> dict[str, float]:
    """Seconds of each phase of a run, by the names that its timing has."""
    return {
        "starting": START_S,
        "loading": loading(work),
        "preparing": preparing(work, plan),
        "trial": trial(work, plan),
        "training": plan.steps * step(work, plan),
        "evaluating": plan.eval_runs * evaluation(work, plan),
        "saving": plan.saves * saving(work),
        "comparing": comparing(work, plan),
    }


def loading(work: Work) -> float:
    """Hashing and reading the weights (stored in half precision), and converting them."""
    stored = 2 * work.shape.parameters / GIGA
    return OPEN_MODEL_S + stored / HASHED + _reading(work)


def _reading(work: Work) -> float:
    quantizing = work.shape.body / GIGA / QUANTIZED if work.stored_bits else 0.0
    if work.kind == "cuda":
        quantizing /= 20
    return 2 * work.shape.parameters / GIGA / READ + quantizing


def preparing(work: Work, plan: Plan) -> float:
    """The model is examined and adapted, and all rows become token ids."""
    tokens = plan.rows * plan.row_tokens + plan.eval_tokens
    rows = plan.rows + plan.eval_tokens / max(1.0, plan.row_tokens)
    probing = work.shape.parameters / GIGA / PROBED if work.kind == "cpu" else 0.0
    return OPEN_MODEL_S + probing + rows * ROW_S + tokens / TOKENS_S


def trial(work: Work, plan: Plan) -> float:
    """Forward and backward on the longest batch, where all memory is touched for the first time."""
    batch = Batch(plan.longest_batch, plan.longest_trained, plan.row_tokens)
    return TRIAL_S + FIRST * (forward(work, batch) + backward(work, batch))


def step(work: Work, plan: Plan) -> float:
    """One optimizer step: its micro-batches one after the other, then the update."""
    parts = max(1, plan.micro_batches)
    whole = (plan.step_tokens + plan.filler, plan.step_trained)
    tokens, trained = (n / parts / work.devices for n in whole)
    batch = Batch(tokens, trained, plan.row_tokens)
    return parts * (forward(work, batch) + backward(work, batch)) + update(work)


def evaluation(work: Work, plan: Plan) -> float:
    """Forward passes over the held-out rows, in batches of training's size."""
    parts = max(1.0, plan.step_tokens / max(1, plan.micro_batches))
    number = max(1.0, plan.eval_tokens / parts)
    batch = Batch(plan.eval_tokens / number, plan.eval_trained / number, plan.row_tokens)
    return EVALUATE_S + number * forward(work, batch) / work.devices


def saving(work: Work) -> float:
    """One checkpoint: weights and optimizer state, written and hashed."""
    state = 4 if work.recipe.optim.endswith("8bit") else 12
    size = work.trained * state / GIGA
    return SAVE_S + size / WRITTEN + size / HASHED


@dataclass(frozen=True)
class Batch:
    """Tokens of one micro-batch, those that are learned, and the tokens that one attends to."""

    tokens: float
    trained: float
    row: float


def forward(work: Work, batch: Batch) -> float:
    """Seconds of a forward pass with its loss."""
    shape, traffic = work.shape, _layer_traffic(work, batch)
    products = 2.0 * shape.active * batch.tokens + _attention(shape, batch)
    products += 2.0 * shape.hidden * shape.vocabulary * batch.trained
    moved = FORWARD_TRAFFIC * traffic + LOGIT_BYTES * shape.vocabulary * batch.trained
    return _together(work, products, moved + _casts(work), FORWARD_KERNELS)


def backward(work: Work, batch: Batch) -> float:
    """Seconds of a backward pass; with checkpointing the layers are computed again."""
    shape, traffic = work.shape, _layer_traffic(work, batch)
    layers = 2.0 * shape.active * batch.tokens
    products = layers * (2 if work.is_full else 1) + 2.5 * _attention(shape, batch)
    head = 2.0 * shape.hidden * shape.vocabulary * batch.trained
    products += head * (2 if work.is_full else 1)
    if not work.is_full:
        products += 6.0 * work.adapter_weights * batch.tokens
    moved = (1 - FORWARD_TRAFFIC) * traffic + SLOPE_BYTES * shape.vocabulary * batch.trained
    launches, unpacked = 1 - FORWARD_KERNELS, 1
    if work.recipe.gradient_checkpointing:
        products += CHECKPOINT * (layers + _attention(shape, batch))
        moved += CHECKPOINT * FORWARD_TRAFFIC * traffic
        launches, unpacked = 1.0, 2
    return _together(work, products, moved, launches, unpacked)


def _attention(shape: Shape, batch: Batch) -> float:
    """Operations of one forward pass: scores and sums over half of a row, on average."""
    return 2.0 * shape.layers * shape.heads * shape.head_dim * batch.row * batch.tokens


def _layer_traffic(work: Work, batch: Batch) -> float:
    """Bytes that the layers move besides their products, forward and backward."""
    shape = work.shape
    half = work.computes_in in ("bf16", "fp16") and not work.is_full
    each = TRAFFIC["half" if half else "fp32"]
    return each * shape.layers * (shape.hidden + shape.intermediate) * batch.tokens


def _casts(work: Work) -> float:
    """Bytes to make the working copy of fp32 weights for one micro-batch, and to add gradients."""
    if not work.is_full:
        return 0.0
    copy = 6.0 if work.computes_in in ("bf16", "fp16") else 0.0
    return (copy + 12.0) * work.shape.parameters


def _together(
    work: Work, products: float, moved: float, launches: float, unpacked: int = 1
) -> float:
    """Seconds of products, traffic and launches: on a GPU the processor runs ahead of it.

    `launches` is the share of a micro-batch, `unpacked` how often stored weights are unpacked.
    """
    busy = products / _product_rate(work) + moved / (work.rates.memory * GIGA)
    busy += unpacked * _unpacking(work)
    kernels = KERNELS["qlora" if work.stored_bits else work.recipe.adapter]
    started = launches * kernels * work.shape.layers * LAUNCH_S.get(work.kind, 5e-5)
    if work.kind == "cpu":
        return busy + started
    return float((busy**4 + started**4) ** 0.25)


def _product_rate(work: Work) -> float:
    """Operations a second that the products of a model reach on this device."""
    reached = REACHED.get(work.kind, 0.6)
    if work.computes_in != "fp32":
        reached *= HALF_REACHED.get(work.kind, 1.0)
    if not work.is_full:
        reached *= WITH_ADAPTER.get(work.kind, 1.0)
    return reached * work.rates.of(work.computes_in) * GIGA


def _unpacking(work: Work) -> float:
    """Seconds to unpack the stored weights of all layers once."""
    if work.stored_bits is None:
        return 0.0
    rate = UNPACKED[work.stored_bits].get(work.kind, UNPACKED[work.stored_bits]["cuda"])
    return work.shape.body / GIGA / rate


def update(work: Work) -> float:
    """Seconds of the optimizer: clipping, moments and weights, bound by memory."""
    each = OPTIMIZER_BYTES.get(work.recipe.optim, 40.0)
    return STEP_S.get(work.kind, 0.0) + each * work.trained / (work.rates.memory * GIGA)


def comparing(work: Work, plan: Plan) -> float:
    """The evaluation at the end: both models read all held-out rows and answer some of them."""
    seconds = 2 * _losses(work, plan)
    if plan.answer_rows:
        seconds += _answers(work, plan)
    loads = work.is_full or work.recipe.init_lora_weights == "pissa"
    return seconds + (_reading(work) if loads and seconds else 0.0)


def _losses(work: Work, plan: Plan) -> float:
    """Held-out rows in small parts, whose losses are kept apart, on one device."""
    if not plan.loss_groups:
        return 0.0
    tokens, trained = (n / plan.loss_groups for n in (plan.eval_tokens, plan.eval_trained))
    return plan.loss_groups * forward(work, Batch(tokens, trained, min(tokens, plan.row_tokens)))


def _answers(work: Work, plan: Plan) -> float:
    """Rows leave their batch as they end: the tuned model's where they learned to, the base's often
    not before the limit."""
    batches = -(-plan.answer_rows // ROWS_AT_ONCE)
    rows = plan.answer_rows / batches
    prompt = Batch(rows * plan.prompt_tokens, rows, plan.prompt_tokens)
    seconds = 2 * batches * forward(work, prompt)
    limit = plan.answer_limit
    usual = min(limit, plan.answer_tokens)
    last = min(limit, max(plan.longest_answer, usual))
    adapted = not work.is_full
    seconds += batches * usual * _token(work, rows, adapted)
    seconds += batches * (last - usual) * _token(work, max(1.0, rows / 4), adapted)
    return seconds + batches * limit * _token(work, UNENDING * rows, adapted=False)


def _token(work: Work, rows: float, adapted: bool) -> float:
    """Seconds of one more token for each of some rows: all weights are read once."""
    shape = work.shape
    wide = 4 if work.is_full or work.computes_in == "fp32" else 2
    reading = wide * shape.parameters / (work.rates.memory * GIGA)
    products = 2.0 * rows * (shape.active + shape.hidden * shape.vocabulary)
    computing = products / (_product_rate(work) * FEW_ROWS.get(work.kind, 0.5))
    started = TOKEN_S + LAYER_S * shape.layers * (ADAPTED if adapted else 1.0)
    busy = max(reading, computing) + _unpacking(work)
    return busy + started if work.kind == "cpu" else max(busy, started)
