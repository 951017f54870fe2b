"""Steps of one shape recorded as a graph and replayed: the GPU gets a whole step in one call.

A shape is recorded when it is met again, on the contents of an earlier row, tried on the row at
hand against the usual step, and used only where loss and gradients agree and time is gained. Any
doubt leaves the usual step, which is said once. How work is recorded is not known here.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer_backend.errors import is_out_of_memory
from trainer_backend.training.batches import TRAINED_AT
from trainer_backend.training.capabilities import causal_lm
from trainer_backend.training.kernels.loss_choice import triton_failures
from trainer_backend.training.loss import TokenSums, has_plain_head
from trainer_backend.training.metrics import num_tokens
from trainer_backend.training.steps.batch_loss import mean_of, row_sums
from trainer_backend.training.steps.filling import Row
from trainer_backend.training.steps.merging import is_changed, sums_joined_rows
from trainer_backend.training.steps.random_states import RandomStates
from trainer_backend.training.steps.recording import CudaRecorder, Recorder, Recording
from trainer_backend.training.steps.static_rows import Shape, StaticGradients, StaticRow, shape_of

MET = 3  # times that a shape is met before it is recorded
KEPT = 32  # graphs; the one that was not used for longest is dropped
MOST = 3 * KEPT  # recordings of a training: each costs a few steps
IN_VAIN = 3  # shapes that gained nothing, one after the other, before no other is tried
GAIN = 0.95  # a replay takes at most this share of the usual step
# how far gradients of one vector may be apart, and losses: order of sums and atomic additions
NEAR = {torch.float32: (1e-3, 1e-5), torch.bfloat16: (5e-2, 1e-3)}
_REFUSALS = (
    *(RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError),
    *(NotImplementedError, AssertionError, MemoryError),
)
Outputs = tuple[Tensor, TokenSums]


@dataclass(frozen=True)
class Graph:
    """A recorded step: the row that it reads, its loss and sums, and where the weights were."""

    row: StaticRow
    recording: Recording[Outputs]


class StepGraphs:
    """Records and replays the steps of a trainer, if `cuda_graphs` asks for it.

    `recorder` is that of CUDA unless given.
    """

    def __init__(self, trainer: Any, recorder: Recorder | None = None):
        self._trainer, self._recorder = trainer, recorder
        self.active = False
        self._graphs: OrderedDict[Shape, Graph] = OrderedDict()
        self._met: dict[Shape, int] = {}
        self._before: dict[Shape, tuple[Row, Tensor]] = {}
        self._gradients: StaticGradients | None = None
        self._weights: list[torch.nn.Parameter] = []
        self._places: tuple[int, ...] = ()
        self._recorded = self._in_vain = 0

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Decide whether steps may be recorded, and hold the graphs until the training is over."""
        trainer = self._trainer
        self._recorded = self._in_vain = 0
        if trainer.args.cuda_graphs:
            why = why_not_recorded(trainer, self._recorder is not None)
            self.active = not why
            if why:
                trainer.paths.say(_usual(why))
            else:
                self._recorder = self._recorder or CudaRecorder(trainer.args.device)
                self._weights = [one for one in trainer.model.parameters() if one.requires_grad]
        try:
            yield
        finally:
            self.active = False
            self._forget()
            self._weights = []

    def give_up(self, why: str) -> None:
        """Record nothing more, and let go of all graphs and their memory."""
        if self.active:
            self.active = False
            self._forget()
            self._trainer.paths.say(_usual(why))

    def _forget(self) -> None:
        self._graphs.clear()
        self._met.clear()
        self._before.clear()
        self._gradients = None

    # A step

    def step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Forward and backward pass of a batch, as StepBooks.step; replayed where it is known."""
        books, items = self._trainer._books, num_items_in_batch
        inputs = self._trainer._prepare_inputs(inputs)
        shape = self._shape(inputs, items)
        if shape is None:
            return books.step(model, inputs, items)
        books.begin(model)
        graph = self._graphs.get(shape)
        if graph is None:
            return self._usual_step(shape, model, inputs, items)
        self._graphs.move_to_end(shape)
        loss, sums = self._replayed(graph, self._filled(inputs), items)
        self._trainer._meters["train"].add(sums, num_tokens(inputs), None)
        return books.shown(loss.clone())

    def _shape(self, inputs: dict[str, Any], items: Any) -> Shape | None:
        """The shape of a batch once it is filled; None if no graph can compute it."""
        if not isinstance(items, Tensor) or not self._trainer.model.training:
            return None
        if self._moved():
            self._forget()  # what was recorded reads weights that are somewhere else now
        lengths = self._trainer._filling.lengths(_row(inputs))
        if not lengths:
            return None
        known = inputs.get(TRAINED_AT)
        return shape_of(lengths, None if known is None else len(known))

    def _moved(self) -> bool:
        places = tuple(one.data_ptr() for one in self._trainer.model.parameters())
        before, self._places = self._places, places
        return bool(before) and before != places

    def _filled(self, inputs: dict[str, Any]) -> Row:
        return self._trainer._filling.fill(_row(inputs))

    def _replayed(self, graph: Graph, row: Row, items: Tensor) -> Outputs:
        assert self._gradients is not None
        graph.row.load(row, items)
        self._gradients.attach()
        graph.recording.replay()
        return graph.recording.outputs

    def _usual_step(
        self, shape: Shape, model: torch.nn.Module, inputs: dict[str, Any], items: Tensor
    ) -> Tensor:
        """The step without a graph; the shape is counted, and recorded once it is well known."""
        met = self._met[shape] = self._met.get(shape, 0) + 1
        first = all(one.grad is None for one in self._weights)
        before = self._before.get(shape)
        if met < MET or before is None or not first or self._recorded >= MOST:
            if 0 < met < MET:
                self._before[shape] = self._filled(inputs), items.clone()
            return self._trainer._books.step(model, inputs, items)
        return self._tried(shape, model, inputs, items)

    # The trial

    def _tried(
        self, shape: Shape, model: torch.nn.Module, inputs: dict[str, Any], items: Tensor
    ) -> Tensor:
        """The usual step; beside it a graph is recorded, compared with it and kept or dropped."""
        trainer, device = self._trainer, self._trainer.args.device
        assert self._recorder is not None
        began = RandomStates.now(device)
        loss, seconds = self._recorder.timed(
            lambda: trainer._books.step(model, dict(inputs), items)
        )
        ended = RandomStates.now(device)
        found = [one.grad for one in self._weights]
        failed: Exception | None = None
        try:
            self._compare(shape, model, (inputs, items), _Usual(loss, found, seconds, began))
        except _faults() as error:
            failed = error
        finally:
            for weight, gradient in zip(self._weights, found, strict=True):
                weight.grad = gradient
            ended.restore()
        if failed is not None:
            self.give_up(_reason(failed))
        return loss

    def _compare(
        self,
        shape: Shape,
        model: torch.nn.Module,
        batch: tuple[dict[str, Any], Tensor],
        usual: "_Usual",
    ) -> None:
        assert self._recorder is not None
        if any(one is None for one in usual.gradients):
            raise ValueError("some weights get no gradient from a text")
        usual.began.restore()
        graph = self._record(shape, model)
        usual.began.restore()
        for weight in self._weights:
            weight.grad = None
        row = self._filled(batch[0])
        (loss, _), seconds = self._recorder.timed(lambda: self._replayed(graph, row, batch[1]))
        halved = self._trainer.args.bf16
        limits = NEAR[torch.bfloat16 if halved else torch.float32]
        apart = distances(self._weights, loss, usual)
        if not all(one <= most for one, most in zip(apart, limits, strict=True)):
            raise ValueError("a replayed step differs from the usual one")
        self._settle(shape, graph, seconds, usual.seconds, exact=max(apart) == 0.0)

    def _record(self, shape: Shape, model: torch.nn.Module) -> Graph:
        """Record a step of the shape on what an earlier row held, so that a replay must read."""
        assert self._recorder is not None
        self._recorded += 1
        if self._gradients is None:
            self._gradients = StaticGradients(self._weights)
        row = StaticRow(shape, self._trainer.args.device)
        row.load(*self._before.pop(shape))
        for weight in self._weights:
            weight.grad = None
        self._gradients.attach()
        try:
            recording = self._recorder.record(self._work(model, row))
        finally:
            self._forget_copies()
        return Graph(row, recording)

    def _work(self, model: torch.nn.Module, row: StaticRow) -> Callable[[], Outputs]:
        trainer = self._trainer

        def work() -> Outputs:
            self._forget_copies()  # the copies of a graph are its own
            with trainer.compute_loss_context_manager():
                loss, sums = static_loss(trainer, model, row)
            trainer.accelerator.backward(loss)
            return loss.detach(), TokenSums(*(one.detach() for one in sums))

        return work

    def _forget_copies(self) -> None:
        if self._trainer.quick_lora is not None:
            self._trainer.quick_lora.copies.clear()

    def _settle(
        self, shape: Shape, graph: Graph, seconds: float, usual: float, *, exact: bool
    ) -> None:
        """Keep the graph if it gains time; give up where graphs go on gaining nothing."""
        if seconds > GAIN * usual:
            self._in_vain += 1
            self._met[shape] = MET - MOST  # not soon again
            if self._in_vain >= IN_VAIN and not self._graphs:
                self.give_up(
                    f"a replay takes {1000 * seconds:.1f} ms, the usual step {1000 * usual:.1f} ms"
                )
            return
        self._in_vain = 0
        self._graphs[shape] = graph
        while len(self._graphs) > KEPT:
            dropped, _ = self._graphs.popitem(last=False)
            self._met.pop(dropped, None)
        same = "equal to the bit" if exact else "equal but for rounding"
        if self._recorded == 1 or len(self._graphs) == 1:
            self._trainer.paths.say(
                f"Steps of a shape that was met {MET} times are replayed as CUDA graphs: the first "
                f"took {1000 * seconds:.1f} ms instead of {1000 * usual:.1f} ms, with loss and "
                f"gradients {same}."
            )


@dataclass(frozen=True)
class _Usual:
    """What the usual step gave, how long it took, and the random numbers that it began with."""

    loss: Tensor
    gradients: list[Tensor | None]
    seconds: float
    began: RandomStates


def static_loss(trainer: Any, model: torch.nn.Module, row: StaticRow) -> Outputs:
    """The loss of a static row for its share of the optimizer step, and its sums."""
    inputs = {"input_ids": row.ids, "position_ids": row.positions}
    given = Row(inputs, row.labels, row.layout)
    _, sums = row_sums(trainer, model, given, row.places, False, ignores=True)
    return mean_of(sums, row.items), sums


def distances(
    weights: list[torch.nn.Parameter], loss: Tensor, usual: _Usual
) -> tuple[float, float]:
    """How far the gradients that the weights have are from the usual ones, and the loss: shares.

    Infinite where one is not finite and the other is.
    """
    both = zip(weights, usual.gradients, strict=True)
    pairs = [(w.grad.float(), g.float()) for w, g in both if w.grad is not None and g is not None]
    apart = torch.stack([(a - b).norm() for a, b in pairs]).norm()
    whole = torch.stack([b.norm() for _, b in pairs]).norm()
    tiny = torch.finfo(torch.float32).tiny
    shares = (
        apart / whole.clamp(min=tiny),
        (loss - usual.loss).abs() / usual.loss.abs().clamp(min=tiny),
    )
    return tuple(torch.nan_to_num(torch.stack(shares), nan=torch.inf).tolist())


def _row(inputs: dict[str, Any]) -> Row:
    beside = ("labels", "seq_lengths", TRAINED_AT)
    given = {name: one for name, one in inputs.items() if name not in beside}
    return Row(given, inputs["labels"], inputs.get("seq_lengths"))


def _faults() -> tuple[type[Exception], ...]:
    return (*_REFUSALS, *triton_failures())


def _usual(why: str) -> str:
    return f"Steps are computed as usual, without CUDA graphs: {why}."


def _reason(error: Exception) -> str:
    if is_out_of_memory(error):
        return "the memory of the device ran out while one was recorded"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160].rstrip(".")


def why_not_recorded(trainer: Any, anywhere: bool = False) -> str:
    """Why the steps of a trainer are not recorded; "" where they may be.

    To be asked when it is settled how activations are kept. `anywhere`: other devices than CUDA do.
    """
    args, model = trainer.args, causal_lm(trainer.model)
    plain = sums_joined_rows(trainer) and not is_changed(trainer, "compute_loss")
    few = getattr(model, "is_loaded_in_8bit", False)
    hooked = any(getattr(one, "_post_accumulate_grad_hooks", None) for one in model.parameters())
    reasons = {
        "there is no CUDA device": args.device.type != "cuda" and not anywhere,
        "several processes share the gradients": args.world_size > 1,
        "the loss is no plain sum over the tokens of joined rows": not plain,
        "rows are not filled to few lengths": trainer._filling is None,
        "the step is the Trainer's own": not trainer._books.quick,
        "layers are computed again (gradient checkpointing)": args.gradient_checkpointing,
        "long rows are computed in tiles": trainer.long_rows.way.tiles,
        "activations wait in main memory": trainer.long_rows.offloads,
        "fp16 scales its gradients": args.fp16,
        "a bf16 working copy is handed its gradients one by one": trainer._masters.holds_copies,
        "gradients are used as they are made": hooked,
        "8-bit layers decide by the values": few,
        "the model is compiled": args.torch_compile,
        "the head is not a plain linear layer": not has_plain_head(model),
    }
    return next((words for words, is_so in reasons.items() if is_so), "")
