"""SFTTrainer: supervised fine-tuning on transformers' Trainer; no run folder is known here."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import PeftConfig
from torch.utils.data import DataLoader, Sampler
from transformers import (
    PreTrainedModel,
    ProcessorMixin,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction, TrainOutput
from transformers.utils.quantization_config import QuantizationConfigMixin

from trainer_backend.data.checks import positions_of
from trainer_backend.models.loaded.pretrained import (
    AnyModel,
    input_embedding,
    kept_formats,
    load_weights,
    open_model,
    open_processing_class,
    short_name,
    tokenizer_of,
)
from trainer_backend.tokens.inputs import Rows
from trainer_backend.tokens.prepare import Counts
from trainer_backend.tokens.vision import ROW_COLUMNS
from trainer_backend.training.adapters import add_adapter, prepare_trainable
from trainer_backend.training.batches import (
    WithRowLengths,
    WithTrainedPositions,
    group_by_length,
    ignore_repeats,
    with_length,
)
from trainer_backend.training.capabilities import (
    causal_lm,
    examine,
    router_weight,
    settle_unused,
)
from trainer_backend.training.card import TAGS, write_card
from trainer_backend.training.kernels.choice import chosen_kernels
from trainer_backend.training.kernels.lora_autocast import settle_lora
from trainer_backend.training.lora.pissa import pissa_of
from trainer_backend.training.lora.plus import quicken_b
from trainer_backend.training.loss import (
    balance_router,
    install_fused_head,
)
from trainer_backend.training.malloc import kept_memory
from trainer_backend.training.metrics import TokenMeter, averages, mean_loss
from trainer_backend.training.neftune import noisy_embeddings
from trainer_backend.training.precision import settle_bf16
from trainer_backend.training.sft_config import (
    SFTConfig,
    as_sft_config,
    check_arguments,
    settle_devices,
)
from trainer_backend.training.special_tokens import prepare_tokens
from trainer_backend.training.steps.batch_loss import batch_loss
from trainer_backend.training.steps.bitsandbytes_adamw import unwaiting
from trainer_backend.training.steps.bookkeeping import StepBooks, model_itself
from trainer_backend.training.steps.filling import filling_of
from trainer_backend.training.steps.graphs import StepGraphs
from trainer_backend.training.steps.long_rows import LongRows, Way, asked_way
from trainer_backend.training.steps.masters import ForgetTrials, masters_of, with_masters
from trainer_backend.training.steps.merging import MergedSteps
from trainer_backend.training.steps.paths import PathsTaken
from trainer_backend.training.trainer_data import TrainerData

logger = logging.getLogger(__name__)


class SFTTrainer(Trainer):
    """Fine-tune a causal language model on prompts and completions, conversations or text.

    Beyond transformers' Trainer: `model` may be an id or a folder, datasets may be raw (any
    container of rows), `peft_config` adds an adapter, `formatting_func` makes a row's text,
    `quantization_config` loads the model in 4 or 8 bits, `preparation_progress` is called with a
    dataset's name, rows done and rows in all. `settings` and the keyword-only names are arguments
    of older trainers, put on top of `args`. Raises ValueError (TrainingDataError for rows) or
    TypeError for what cannot be trained.

        SFTTrainer("Qwen/Qwen3-0.6B", train_dataset=[{"prompt": "2+2=", "completion": "4"}]).train()
    """

    model: AnyModel
    args: SFTConfig
    loss_is_scaled_for_ga = True  # the loss is divided by the tokens of all accumulated batches

    def __init__(  # noqa: PLR0913 - the well-known signature
        self,
        model: str | AnyModel,
        args: SFTConfig | TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        train_dataset: Rows | None = None,
        eval_dataset: Rows | Mapping[str, Rows] | None = None,
        processing_class: Tokenizer | ProcessorMixin | None = None,
        compute_loss_func: Callable | None = None,
        compute_metrics: Callable[[EvalPrediction], dict] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[
            torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None
        ] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
        | None = None,
        peft_config: PeftConfig | None = None,
        formatting_func: Callable | None = None,
        quantization_config: QuantizationConfigMixin | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        max_seq_length: int | None = None,
        preparation_progress: Callable[[str, int, int], None] | None = None,
        **settings: Any,
    ) -> None:
        args = as_sft_config(args, short_name(model), max_length=max_seq_length, **settings)
        check_arguments(args, train_dataset, data_collator, formatting_func, compute_loss_func)
        set_seed(args.seed)
        self.paths, self.graphs = PathsTaken(self._tell_path), StepGraphs(self)
        model = open_model(model, args, quantization_config)
        settle_bf16(args, model)
        processing_class = processing_class or tokenizer or open_processing_class(model, args)
        self._tokenizer = tokenizer_of(processing_class)
        processor = processing_class if isinstance(processing_class, ProcessorMixin) else None
        settle_devices(args, reads_images=processor is not None)
        added = prepare_tokens(model, self._tokenizer, args, processor)
        model = add_adapter(model, peft_config, added, args)
        self.pissa = pissa_of(model) if peft_config else None
        self.quick_lora = prepare_trainable(model, args)
        self.aux_loss_enabled = balance_router(causal_lm(model), args)
        self.router_aux_loss_coef = router_weight(causal_lm(model), args)
        self._traits = examine(model, args)
        settle_unused(model, args)
        self._rows_wanted = compute_metrics is not None  # logits are compared row by row
        self._meters = {"train": TokenMeter(), "eval": TokenMeter()}
        self.args = args
        self._data = TrainerData(
            args=args,
            tokenizer=self._tokenizer,
            processor=processor,
            vocabulary=len(input_embedding(model)),
            positions=positions_of(causal_lm(model).config.to_dict()),
            formatting_func=formatting_func,
            progress=preparation_progress,
            rows_wanted=self._rows_wanted,
        )
        train_dataset, eval_dataset = self._data.prepare_both(train_dataset, eval_dataset)
        self._tell_of_content()
        self._usual, self._padded = self._data.collators(self._traits.packs)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or self._usual,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_loss_func=compute_loss_func,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        settle_lora(self.quick_lora, self.model, args, self.paths.say)
        self._books, self._filling = StepBooks(self), filling_of(self)
        self.model_accepts_loss_kwargs = True  # tokens of the batch are counted after the shift
        self._loss_shifts_labels = True
        self.merging, self.long_rows = MergedSteps.of(self), LongRows(self)
        self.neftune_noise_alpha = None  # the Trainer's own noise goes by the length of a row
        if self._traits.spec is not None:
            install_fused_head(causal_lm(self.model), self._traits.spec)
        self.model.add_model_tags(list(TAGS))
        made = optimizers[0] or optimizer_cls_and_kwargs
        self._masters = masters_of(self.model, args, made, self.paths.say)
        if args.bf16_working_copy:
            self.add_callback(ForgetTrials(self._masters))

    @property
    def data_counts(self) -> dict[str, Counts]:
        """Rows given, truncated and dropped, by name of the dataset ("train", "eval", ...)."""
        return self._data.counts

    def _tell_of_content(self) -> None:
        self._data.tell_of_content()

    def _tell_path(self, sentence: str) -> None:
        logger.info(sentence)

    @property
    def mended_kinds(self) -> tuple[str, ...]:
        """Lost kinds of content that the training template would write."""
        return self._data.mended

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            own = signature(type(causal_lm(self.model)).forward).parameters
            names = ["input_ids", "labels", "seq_lengths", *own, *ROW_COLUMNS]
            self._signature_columns = names  # type: ignore[assignment]  # declared as None

    def _get_dataloader(
        self, dataset: Dataset | IterableDataset, description: str, *args: Any, **kwargs: Any
    ) -> DataLoader:
        usual, evaluates = self.data_collator, description != "Training"
        by_row = evaluates and (self._rows_wanted or description == "test")
        if by_row and usual is self._usual:
            self.data_collator = self._padded
        own = self.data_collator in (self._usual, self._padded)
        if own and isinstance(dataset, Dataset):  # accelerate may cut batches of a stream
            self.data_collator = WithTrainedPositions(self.data_collator)
        if self.args.world_size > 1:
            self.data_collator = WithRowLengths(self.data_collator)
            dataset = with_length(dataset) if evaluates else dataset
        try:
            return super()._get_dataloader(dataset, description, *args, **kwargs)
        finally:
            self.data_collator = usual

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        chosen = self.args.train_sampling_strategy != "random"
        own = self.data_collator in (self._usual, WithTrainedPositions(self._usual))
        if self._traits.packs or chosen or not own:
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        grouped = group_by_length(rows, self.args.train_batch_size, seed)
        return super()._get_train_sampler(train_dataset) if grouped is None else grouped

    def get_test_dataloader(self, test_dataset: Rows) -> DataLoader:
        """The Trainer's, for a dataset that may be raw; rows are padded, not joined."""
        return super().get_test_dataloader(self._data.prepare(test_dataset, "test"))

    def get_batch_samples(self, epoch_iterator: Iterator, *args: Any) -> tuple[list, Any]:
        """The Trainer's; repeats in an epoch's last batches are masked, and batches merged."""
        batches = (ignore_repeats(batch, self.accelerator) for batch in epoch_iterator)
        samples, num_items = super().get_batch_samples(batches, *args)
        return self.merging.waiting(samples), num_items

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        known = self._books.items(batch_samples, device)
        return super()._get_num_items_in_batch(batch_samples, device) if known is None else known

    # Loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The scalar loss: token losses summed over the batch, divided by `num_items_in_batch`.

        That is the number of trained tokens of all accumulated batches (None: of this batch).
        Returns (loss, outputs with logits) when `return_outputs`.
        """
        loss, outputs = batch_loss(self, model, dict(inputs), return_outputs, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Loss of a held-out batch; with its logits and labels unless `prediction_loss_only`."""
        inputs = ignore_repeats(inputs, self.accelerator)
        if "labels" not in inputs:
            inputs.pop("seq_lengths", None)
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            if prediction_loss_only:
                return self.compute_loss(model, inputs).detach(), None, None
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        return loss.detach(), outputs.logits, inputs["labels"]

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """The Trainer's, with the kernels that suit; on a CPU freed memory is kept for a step."""
        model, found = causal_lm(self.model), self._traits
        embedding = model.get_input_embeddings()
        with (
            kept_memory(self.args.device.type),
            self._masters.copied(),
            chosen_kernels(model, self.args, found.spec, found.packs, self.paths.say),
            self.long_rows.ready(),
            self.graphs.ready(),
            noisy_embeddings(embedding, self.args.neftune_noise_alpha),
        ):
            return super().train(*args, **kwargs)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's; with loraplus_lr_ratio, B matrices get groups of their own."""
        is_new, ratio = self.optimizer is None, self.args.loraplus_lr_ratio
        optimizer = super().create_optimizer(model)
        if ratio and is_new:
            quicken_b(optimizer, self.model if model is None else model, ratio)
        if is_new:
            self._masters.take_over(optimizer)
        return optimizer

    def _way(self) -> Way:
        return asked_way(self.args)

    def _next_way(self, way: Way) -> Way | None:
        """The way to go on when memory runs out on `way`; a script's own settings stay."""

    @staticmethod
    def get_optimizer_cls_and_kwargs(*args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """The Trainer's; unpaged 8-bit AdamW does not wait for the GPU after each weight."""
        return unwaiting(Trainer.get_optimizer_cls_and_kwargs(*args, **kwargs))

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The Trainer's, of one batch or of all batches of a step; see MergedSteps."""
        return self.merging.run(self._compute_part, *args, **kwargs)

    def _compute_part(self, model: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass; activations are kept as long rows need it."""
        step = self._books.step if self._books.quick else super().training_step
        step = self.graphs.step if self.graphs.active else step
        with self.long_rows.step():
            return self.long_rows.trained(step, model_itself(model), *args, **kwargs)

    # Book-keeping of a step

    def _run_epoch(self, model: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        with self._books.epoch(model) as stepped:
            super()._run_epoch(stepped, *args, **kwargs)

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        holder = self._masters.updated(model)
        return self._books.clip(holder, self.args.max_grad_norm, super()._clip_grad_norm)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        holder = self._masters.updated(model)
        if grad_norm is None:  # nothing is clipped
            grad_norm = self._books.clip(holder, math.inf, super()._get_grad_norm)
        return super()._get_grad_norm(model_itself(holder), grad_norm)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """As the Trainer counts them, without looking through the model."""
        return self._books.operations(inputs)

    # Saving

    def create_model_card(  # type: ignore[override]  # the Trainer lists `facts` one by one
        self, *, tags: str | list[str] | None = None, model_name: str | None = None, **facts: Any
    ) -> None:
        """Write the README.md of the output folder: base model, settings, tags, code to load it.

        `facts` are fields of the Hub's metadata block: language, license, datasets …
        """
        if self.is_world_process_zero():
            own = [tags] if isinstance(tags, str) else [*(tags or ())]
            write_card(self, str(self.args.output_dir), model_name, own, facts)

    @with_masters
    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with self._books.arguments_as_given():
            super()._save(output_dir, state_dict)
        settings = getattr(self.model, "generation_config", None)
        if settings is not None:  # an adapter is saved without them, and would not stop
            settings.save_pretrained(output_dir or str(self.args.output_dir))
        if self.pissa is not None:
            self.pissa.convert(output_dir or str(self.args.output_dir))
        write_card(self, output_dir or str(self.args.output_dir))

    @with_masters
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self._load_own(resume_from_checkpoint):
            with kept_formats(self.model):
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    @with_masters
    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if not (best and self._load_own(best)):
            super()._load_best_model()

    def _load_own(self, folder: str) -> bool:
        """Load a whole model, or a PiSSA adapter; False where the Trainer loads it as well."""
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if isinstance(self.model, PreTrainedModel) and not sharded:
            load_weights(self.model, folder)
        elif self.pissa is not None:
            self.pissa.load(folder)
        else:
            return False
        return True

    # Evaluation and logs

    @with_masters
    def evaluate(
        self,
        eval_dataset: Rows | Mapping[str, Rows] | str | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The Trainer's; a dataset given here may be raw. The loss is in nats per trained token."""
        prepared = self._data.prepare_held_out(eval_dataset)
        return super().evaluate(prepared, ignore_keys, metric_key_prefix)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The Trainer's; the loss is the mean over all trained tokens, however they are batched."""
        self._meters["eval"].read(self.accelerator)
        output = super().evaluation_loop(*args, **kwargs)
        sums = self._meters["eval"].read(self.accelerator)
        if sums and sums["trained"]:
            shown = averages(sums, self.aux_loss_enabled)
            if self.compute_loss_func is None:
                shown["loss"] = mean_loss(sums, shown, self.router_aux_loss_coef)
            shown["num_tokens"] = self._meters["train"].num_tokens
            assert output.metrics is not None
            prefix = kwargs.get("metric_key_prefix", "eval")
            output.metrics.update({f"{prefix}_{key}": shown[key] for key in shown})
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The Trainer's, with token accuracy, entropy and the tokens seen since the run began."""
        meter = self._meters["train"]
        if "loss" in logs or "train_loss" in logs:
            sums = meter.read(self.accelerator)
            if sums:
                meter.count(sums, self.state.log_history)
                logs.update(averages(sums, self.aux_loss_enabled))
            logs["num_tokens"] = meter.num_tokens
        super().log(logs, start_time)
