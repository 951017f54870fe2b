"""SFTConfig: transformers' TrainingArguments and the settings of supervised fine-tuning.

Names follow the well-known SFTConfig. Settings are normalised and checked here, never acted on.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import TrainingArguments

from trainer_backend.processes import started_alone
from trainer_backend.recipe import SETTINGS, is_template_text
from trainer_backend.tokens.packing import STRATEGIES
from trainer_backend.training.distributed import let_cpus_shard
from trainer_backend.training.precision import accelerator, resolve_precision

_DEPRECATED = {
    "packing_strategy": {"bfd-requeue": "bfd_split", "ffd": "bfd"},
    "loss_type": {"chunked_nll": "nll"},
}

LONG_ROWS = ("auto", "tiles", "off")


def _help(text: str) -> dict[str, str]:
    return {"help": text}


# arguments of older trainers without a meaning today
_GONE = {"num_of_sequences", "chars_per_token", "infinite", "dataset_batch_size"}


@dataclass
class SFTConfig(TrainingArguments):
    """Settings of a fine-tuning run; every TrainingArguments field is accepted too.

    Raises ValueError for an unknown choice. The same script runs on several devices or machines,
    started on each of them with:
    accelerate launch --multi_gpu --num_processes 16 --num_machines 2 --machine_rank 0
    --main_process_ip HOST --main_process_port 29500 script.py   (torchrun does as well)
    """

    _VALID_DICT_FIELDS = [
        *TrainingArguments._VALID_DICT_FIELDS,
        "model_init_kwargs",
        "dataset_kwargs",
    ]

    learning_rate: float = field(
        default=2e-5, metadata=_help("Peak learning rate of the schedule.")
    )
    logging_steps: float = field(
        default=10,
        metadata=_help("Log every this many optimizer steps (below 1: a fraction of all)."),
    )
    bf16: bool | None = field(  # type: ignore[assignment]  # None: decided once the model is known
        default=None,
        metadata=_help("Train in bfloat16; None: where it is faster on this hardware."),
    )

    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata=_help("Arguments for from_pretrained when the model is given by id.")
    )
    trust_remote_code: bool = field(
        default=False, metadata=_help("Run code that comes with the model. Dangerous.")
    )
    router_aux_loss_coef: float | None = field(
        default=None,
        metadata=_help("Weight of the router's load-balancing loss; None: the model's own."),
    )
    chat_template: str = field(
        default="model",
        metadata=_help(
            "model (the tokenizer's own), training (a template that omits nothing), the name of a "
            "built-in template (chatml, llama3, …), or the text of one (Jinja)."
        ),
    )
    thinking: str = field(
        default="auto", metadata=_help("The chat template's thinking switch: auto, on or off.")
    )
    template_date: str | None = field(
        default=None,
        metadata=_help("Date (2026-11-27) for templates that write today's; None: today."),
    )
    as_written: bool = field(
        default=False,
        metadata=_help("Move no system text and open no thought that the template writes none of."),
    )
    chat_template_path: str | None = field(
        default=None, metadata=_help("A .jinja file, or a tokenizer whose chat template to copy.")
    )
    dataset_text_field: str = field(default="text", metadata=_help("Column with plain text."))
    dataset_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata=_help("Only key: skip_prepare_dataset.")
    )
    dataset_num_proc: int | None = field(
        default=None, metadata=_help("Processes that prepare the data.")
    )
    eos_token: str | None = field(
        default=None, metadata=_help("Token that ends an answer, if not the tokenizer's.")
    )
    pad_token: str | None = field(
        default=None, metadata=_help("Token that pads rows, if not the tokenizer's.")
    )
    max_length: int | None = field(
        default=1024, metadata=_help("Tokens per row; longer rows are truncated. None: no limit.")
    )
    max_seq_length: int | None = field(
        default=None, metadata=_help("The older name of max_length.")
    )
    truncation_mode: str = field(
        default="keep_start",
        metadata=_help("Part of a long row that is kept: keep_start or keep_end."),
    )
    shuffle_dataset: bool = field(
        default=False, metadata=_help("Shuffle before packing and training.")
    )
    packing: bool = field(default=False, metadata=_help("Put several examples into one row."))
    packing_strategy: str = field(
        default="bfd",
        metadata=_help("bfd (truncate long rows), bfd_split (split them), wrapped (cut a stream)."),
    )
    padding_free: bool | None = field(
        default=None,
        metadata=_help(
            "Join the rows of a batch without padding; None: where the model allows it."
        ),
    )
    pad_to_multiple_of: int | str | None = field(
        default="auto", metadata=_help("Padded batches are a multiple of this many tokens wide.")
    )
    eval_packing: bool | None = field(
        default=None, metadata=_help("Pack held-out rows too; None: as for training.")
    )
    completion_only_loss: bool | None = field(
        default=None, metadata=_help("Train on completions only; None: if there are prompts.")
    )
    assistant_only_loss: bool = field(
        default=False, metadata=_help("Train on assistant messages only.")
    )
    last_turn_only: bool = field(
        default=False, metadata=_help("Train on the last assistant message of a conversation only.")
    )
    lost_content: str = field(
        default="train_without",
        metadata=_help(
            "Rows of which the chat template omits a kind of content: train_without (and warn), "
            "leave_out, or ask (raise)."
        ),
    )
    control_tokens: str = field(
        default="auto",
        metadata=_help(
            "How text that spells a control token of the model is read: auto (as text, except in "
            "plain texts that are rendered already), text, or tokens (as a control token)."
        ),
    )
    loss_type: str = field(
        default="nll",
        metadata=_help("nll, or dft (weighted by the token's probability, arXiv 2508.05629)."),
    )
    activation_offloading: bool = field(
        default=False, metadata=_help("On a GPU: keep activations in main memory until needed.")
    )
    fill_rows: bool | None = field(
        default=None,
        metadata=_help(
            "Fill joined rows to few lengths with tokens that are not learned from; None: on CUDA."
        ),
    )
    long_rows: str = field(
        default="auto",
        metadata=_help(
            "tiles: norms and perceptrons of rows above 8,192 tokens are computed in tiles; "
            "auto: a run adds checkpointing, tiles, offloading where memory demands; off: never."
        )
        | {"choices": LONG_ROWS},
    )
    context_parallel: bool = field(
        default=False,
        metadata=_help("All processes share each row, for rows that one device cannot hold."),
    )
    merge_batches: bool | None = field(
        default=None,
        metadata=_help(
            "Compute the gradient_accumulation_steps batches of an optimizer step as one, in parts "
            "where memory is short (the same loss); None: on a GPU."
        ),
    )
    loraplus_lr_ratio: float = field(
        default=0.0,
        metadata=_help("LoRA+ (arXiv 2402.12354): learning rate of B by that of A. 0: the same."),
    )

    cuda_graphs: bool = field(
        default=False,
        metadata=_help(
            "Replay steps of a shape that is met again as CUDA graphs, where a trial shows the "
            "same result in less time. Not yet measured on a GPU."
        ),
    )

    # how full training keeps its weights
    bf16_working_copy: bool = field(
        default=False,
        metadata=_help(
            "Full training in bf16: compute with a bf16 copy of the weights that the optimizer "
            "writes from its float32 ones. Not yet measured on a GPU."
        ),
    )

    def __post_init__(self) -> None:
        device = "cpu" if self.use_cpu else accelerator()
        self.bf16, self.fp16 = resolve_precision(self.bf16, self.fp16, device)
        if started_alone():
            warnings.warn(
                "accelerate started one process of those asked for, as it does with --cpu and no "
                "MPI. Use `accelerate launch --multi_gpu --num_processes N` without --cpu.",
                stacklevel=3,
            )
        if device == "cpu" and (self.bf16 or int(os.environ.get("WORLD_SIZE", "1")) > 1):
            # confirms that bf16 on a CPU is intended; without it, processes launched on a machine
            # without a GPU do not form a group: each trains alone
            self.use_cpu = True
        if device == "cpu":
            self.dataloader_pin_memory = False
        elif self.dataloader_pin_memory and self.accelerator_config is None:
            self.accelerator_config = {"non_blocking": True}  # pinned batches move meanwhile
        super().__post_init__()
        self._normalise()
        self._check()

    def _normalise(self) -> None:
        """Accept the spellings of the command line and of older versions."""
        if self.max_seq_length is not None:
            self.max_length, self.max_seq_length = self.max_seq_length, None
        for name, renamed in _DEPRECATED.items():
            old = getattr(self, name)
            if old in renamed:
                new = renamed[old]
                warnings.warn(
                    f"`{name}={old!r}` is deprecated: it is called {new!r} now.",
                    FutureWarning,
                    stacklevel=4,
                )
                setattr(self, name, new)
        multiple = self.pad_to_multiple_of
        if isinstance(multiple, str):
            is_word = multiple.lower() in ("auto", "none", "null")
            self.pad_to_multiple_of = None if is_word else int(multiple)

    def _check(self) -> None:
        """Reject invalid values."""
        choices = {
            "loss_type": ("nll", "dft"),
            "packing_strategy": STRATEGIES,
            "truncation_mode": ("keep_start", "keep_end"),
            "control_tokens": ("auto", "text", "tokens"),
            "lost_content": ("train_without", "leave_out", "ask"),
            "thinking": ("auto", "on", "off"),
            "long_rows": LONG_ROWS,
        }
        if not is_template_text(self.chat_template):
            choices["chat_template"] = tuple(SETTINGS["chat_template"].choices)
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; choose {' or '.join(allowed)}."
                )
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length must be at least 1, not {self.max_length}.")


def as_sft_config(args: TrainingArguments | None, model_name: str, **overrides: Any) -> SFTConfig:
    """An SFTConfig from what a script passed; `overrides` that are not None replace its values.

    Raises TypeError for an override that is no setting.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    for name in _GONE & given.keys():
        warnings.warn(f"`{name}` has no meaning any more and is ignored.", stacklevel=3)
        del given[name]
    if isinstance(args, SFTConfig):
        values = _values(args) if given else None
        return args if values is None else SFTConfig(**{**values, **given})
    if args is None:
        return SFTConfig(output_dir=f"{model_name}-SFT", **given)
    return SFTConfig(**{**_values(args), **given})


def _values(args: TrainingArguments) -> dict[str, Any]:
    """The constructor arguments that reproduce these settings."""
    return {f.name: getattr(args, f.name) for f in fields(args) if f.init}


def check_arguments(
    args: SFTConfig,
    train_dataset: object,
    data_collator: Callable | None,
    formatting_func: Callable | None,
    compute_loss_func: Callable | None,
) -> None:
    """Raise ValueError for combinations of which one part would be ignored silently.

    TypeError for several training datasets.
    """
    if train_dataset is None:
        raise ValueError("`train_dataset` is required.")
    if isinstance(train_dataset, Mapping) and any(
        isinstance(part, Dataset | IterableDataset) for part in train_dataset.values()
    ):
        raise TypeError(
            "`train_dataset` must be a `Dataset` or `IterableDataset` (or a list of rows), not "
            f"several datasets in a {type(train_dataset).__name__}. Pass one: dataset['train']."
        )
    if args.packing and args.max_length is None:
        raise ValueError("packing=True needs max_length: it is the length of a packed row.")
    if args.padding_free and args.max_length is not None and not args.packing:
        raise ValueError(
            "padding_free=True without packing: `max_length` is not enforced. Set max_length=None "
            "or packing=True (rows are joined by default in any case)."
        )
    if data_collator is not None and args.padding_free:
        raise ValueError("padding_free=True joins rows itself: it cannot use a data_collator.")
    if formatting_func is not None and args.completion_only_loss:
        raise ValueError(
            "formatting_func makes plain text, in which completion_only_loss=True finds no "
            "completion. Drop one of them, or format the dataset into prompt and completion."
        )
    if compute_loss_func is not None and args.loss_type == "dft":
        raise ValueError("loss_type='dft' and compute_loss_func both define the loss. Keep one.")


def settle_devices(args: SFTConfig, reads_images: bool) -> None:
    """Use one device per process, prepare FSDP, and let DDP expect unused vision weights."""
    if args.n_gpu > 1:
        warnings.warn(
            f"{args.n_gpu} GPUs are visible to this process; it trains on the first. Start the "
            "script with torchrun or accelerate launch to use all of them.",
            stacklevel=3,
        )
        args._n_gpu = 1
    if args.fsdp:
        _settle_fsdp(args)
    checkpointing = args.gradient_checkpointing_kwargs
    reentrant = isinstance(checkpointing, dict) and checkpointing.get("use_reentrant")
    if reads_images and args.ddp_find_unused_parameters is None and not reentrant:
        args.ddp_find_unused_parameters = True  # rows without images skip the vision tower


def _settle_fsdp(args: SFTConfig) -> None:
    """Allow FSDP on CPUs; in half precision reduce gradients and return losses in float32.

    accelerate's default returns them in bf16: three digits of a loss, and token sums above 256
    rounded.
    """
    if args.device.type == "cpu":
        let_cpus_shard()
    computing = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    if computing and args.fsdp_plugin_args["fsdp_version"] == 2:
        policy = MixedPrecisionPolicy(param_dtype=computing, reduce_dtype=torch.float32)
        args.fsdp_plugin_args.setdefault("mixed_precision_policy", policy)
