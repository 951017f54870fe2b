"""What the Trainer looks after in each step, without walking over the model or waiting for it.

The weights that learn, the modules and the operations of a token are looked up once an epoch. What
is computed in a step is not decided here: sums, norms and losses are those of the Trainer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate.utils import DistributedType
from torch import Tensor
from transformers import Trainer
from transformers.training_args import OptimizerNames

from trainer_backend.training.batches import TRAINED_AT

PLAIN = (
    DistributedType.NO,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_XPU,
    DistributedType.MULTI_NPU,
)
_LOMO = (OptimizerNames.LOMO, OptimizerNames.ADALOMO)


class SteppedModel:
    """A model as the Trainer's loop holds it: its gradients are cleared over a kept list.

    `Module.zero_grad` looks for all parameters of all modules each time. Everything else is that of
    the model itself.
    """

    def __init__(self, model: torch.nn.Module, weights: list[torch.nn.Parameter]):
        self.module, self._weights = model, weights

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As Module.zero_grad, for the weights that learn: no other has a gradient."""
        if not set_to_none:
            self.module.zero_grad(set_to_none=False)
        for weight in self._weights:
            weight.grad = None


def model_itself(model: Any) -> Any:
    """The model behind a SteppedModel; any other is returned."""
    return model.module if isinstance(model, SteppedModel) else model


class StepBooks:
    """The book-keeping of a trainer's steps; `quick` where the short ways equal the Trainer's.

    They do on one device and with DDP. Sharded models (FSDP, DeepSpeed, tensor or context
    parallel), LOMO, cleared caches and losses scaled afterwards go the Trainer's own way.
    """

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self._weights: list[torch.nn.Parameter] = []
        self._modules: list[torch.nn.Module] = []
        self._operations: int | None = None  # of a token, forward and backward
        self._filters = False  # leave NaN and infinite losses out of the logged mean

    @property
    def quick(self) -> bool:
        """Whether the short ways are taken."""
        trainer, args = self._trainer, self._trainer.args
        parallel = getattr(trainer.accelerator, "parallelism_config", None)
        return (
            trainer.accelerator.distributed_type in PLAIN
            and parallel is None
            and args.n_gpu <= 1
            and args.torch_empty_cache_steps is None
            and args.optim not in _LOMO
            and trainer.loss_is_scaled_for_ga is True
            and not trainer.is_distributed_loading_by_transformers
        )

    @contextmanager
    def epoch(self, model: torch.nn.Module) -> Iterator[Any]:
        """Look the model's parts up; yields what the Trainer's loop shall hold as the model.

        logging_nan_inf_filter is done here meanwhile: the Trainer would wait for each loss.
        """
        if not self.quick:
            yield model
            return
        args = self._trainer.args
        self._weights = [one for one in model.parameters() if one.requires_grad]
        self._modules = list(model.modules())
        self._filters, args.logging_nan_inf_filter = args.logging_nan_inf_filter, False
        try:
            yield SteppedModel(model, self._weights)
        finally:
            self._filters, args.logging_nan_inf_filter = False, self._filters
            self._modules = []

    @contextmanager
    def arguments_as_given(self) -> Iterator[None]:
        """Let the trainer's arguments be those that were given, to be saved."""
        args = self._trainer.args
        now, args.logging_nan_inf_filter = args.logging_nan_inf_filter, self._asks_to_filter
        try:
            yield
        finally:
            args.logging_nan_inf_filter = now

    @property
    def _asks_to_filter(self) -> bool:
        return self._filters or self._trainer.args.logging_nan_inf_filter

    def step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Forward and backward pass of a batch, as Trainer.training_step; returns its loss."""
        trainer, items = self._trainer, num_items_in_batch
        self.begin(model)
        inputs = trainer._prepare_inputs(inputs)
        with trainer.compute_loss_context_manager():
            loss = cast(Tensor, trainer.compute_loss(model, inputs, num_items_in_batch=items))
        trainer.accelerator.backward(loss)
        return self.shown(loss.detach())

    def begin(self, model: torch.nn.Module) -> None:
        """Put model and optimizer into training mode."""
        self._set_training(model)
        prepare = getattr(self._trainer.optimizer, "train", None)
        if callable(prepare):
            prepare()

    def _set_training(self, model: torch.nn.Module) -> None:
        """Call `model.train()` if a module of it is not in training mode."""
        kept = self._modules
        if not kept or kept[0] is not model or not all(one.training for one in kept):
            model.train()

    def shown(self, loss: Tensor) -> Tensor:
        """The loss that is logged: one that is not finite becomes the mean of those before."""
        if not self._filters:
            return loss
        trainer = self._trainer
        steps = 1 + trainer.state.global_step - trainer._globalstep_last_logged
        return torch.where(torch.isfinite(loss), loss, trainer._tr_loss / steps)

    def clip(self, model: Any, limit: float, otherwise: Callable[[Any], Any]) -> Any:
        """The norm of the gradients, which are scaled down to `limit`; else what `otherwise` does.

        The norm is made of the same tensors in the same order as the Trainer's.
        """
        if not isinstance(model, SteppedModel) or self._trainer._has_mixed_mesh_grads(model.module):
            return otherwise(model_itself(model))
        return self._trainer.accelerator.clip_grad_norm_(self._weights, limit)

    def operations(self, inputs: Mapping[str, Any]) -> int:
        """Floating-point operations of a batch as the Trainer counts them."""
        ids = inputs.get("input_ids")
        if ids is None:
            return Trainer.floating_point_ops(self._trainer, dict(inputs))
        if self._operations is None and ids.numel():
            whole = Trainer.floating_point_ops(self._trainer, dict(inputs))
            self._operations = whole // ids.numel()
        return (self._operations or 0) * ids.numel()

    def items(self, batches: Sequence[Mapping[str, Any]], device: torch.device) -> Tensor | None:
        """The trained tokens of the batches of a step, a float32 scalar as the Trainer's.

        Their places were found on the CPU as the rows were collated. None where they were not, or
        where several processes share a step.
        """
        places = [one[TRAINED_AT] for one in batches if TRAINED_AT in one]
        if not places or len(places) < len(batches) or self._trainer.args.world_size > 1:
            return None
        return torch.full((), float(sum(len(one) for one in places)), device=device)
