"""The datasets of a trainer: training, held-out and test rows are prepared with its settings.

How a row becomes tokens is not decided here.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
from datasets import IterableDataset
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers import ProcessorMixin
from transformers.trainer_pt_utils import AcceleratorConfig

from trainer_backend.data.checks import (
    KINDS,
    Positions,
    content_findings,
    is_set,
    lost_kinds,
    rows_text,
)
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.tokens.encode import EncodeOptions
from trainer_backend.tokens.inputs import AnyDataset, Rows, as_dataset, columns_of, holds_datasets
from trainer_backend.tokens.prepare import (
    Counts,
    Preparation,
    prepare_dataset,
    reading_of,
    refuse_masks_without_labels,
)
from trainer_backend.tokens.refusals import (
    SAMPLE,
    ContentLost,
    RowsRefused,
    joined,
    mended_kinds,
)
from trainer_backend.tokens.vision import VisionCollator, has_images, prepare_images, refuse_images
from trainer_backend.training.sft_config import SFTConfig

logger = logging.getLogger(__name__)
_NO_FLAGS = np.empty(0, np.int64)
Collator = SFTCollator | VisionCollator
Progress = Callable[[str, int, int], None]  # dataset, rows done, rows in all


@dataclass
class TrainerData:
    """Prepares training, held-out and test rows in the same way; `counts` are theirs by name."""

    args: SFTConfig
    tokenizer: Tokenizer
    processor: ProcessorMixin | None  # of a vision-language model
    vocabulary: int  # rows of the model's embedding
    positions: Positions | None = None  # of the model
    formatting_func: Callable | None = None
    progress: Progress | None = None
    rows_wanted: bool = False  # held-out logits are compared row by row: no packing
    counts: dict[str, Counts] = field(default_factory=dict)
    mended: tuple[str, ...] = ()  # kinds of content that the training template would write

    def prepare(self, data: Rows, name: str, packing: bool = False) -> AnyDataset:
        """Return the dataset as the collator takes it: tokenised, or rendered rows with images.

        Raises ValueError naming the row or setting; TypeError for another container.
        """
        data, kwargs = as_dataset(data, name), self.args.dataset_kwargs
        if isinstance(data, IterableDataset):
            accelerating = cast(AcceleratorConfig, self.args.accelerator_config)  # once initialised
            accelerating.dispatch_batches = False
        read: Callable[..., tuple[AnyDataset, Counts]]
        if has_images(columns_of(data)):
            refuse_images(self.processor, self.args, name)
            read, packing = self._prepare_images, False
        elif isinstance(kwargs, dict) and kwargs.get("skip_prepare_dataset"):
            refuse_masks_without_labels(data, name)
            return self._known_tokens(data, name)
        else:
            read = prepare_dataset
        if isinstance(data, IterableDataset):
            data = self._known_tokens(data, name)
        plan = self._plan(data, name, packing)
        with self.args.main_process_first(local=False, desc=f"preparing the {name} dataset"):
            prepared, self.counts[name] = read(data, plan, name)
        self._note_mended(data, plan, name)
        return prepared

    def _note_mended(self, data: AnyDataset, plan: Preparation, name: str) -> None:
        """Find out which lost kinds of content the training template would write."""
        flags = self.counts[name].content
        kinds = [kind for kind in KINDS if is_set(flags, kind, "lost").any()]
        if not kinds or has_images(columns_of(data)):
            return
        at = [np.flatnonzero(is_set(flags, kind, "lost"))[:SAMPLE] for kind in kinds]
        reading = reading_of(data, plan)
        rows = [reading.example(row) for row in data.select(np.unique(np.concatenate(at)))]
        found = mended_kinds(rows, kinds, self.tokenizer, **asdict(plan.options))
        self.mended = tuple(dict.fromkeys([*self.mended, *found]))

    def prepare_both(
        self, train: Rows, held_out: Rows | Mapping[str, Rows] | None
    ) -> tuple[AnyDataset, Any]:
        """prepare() for training and held-out rows: what cannot be trained is told of both at once.

        Raises RowsRefused, or ContentLost when a kind of content is lost and nobody has decided.
        """
        prepared, refused = [], []
        for read in (
            lambda: self.prepare(train, "train", self.args.packing),
            lambda: self.prepare_held_out(held_out),
        ):
            try:
                prepared.append(read())
            except RowsRefused as error:
                refused.append(error)
        if refused:
            raise joined(refused)
        self._ask()
        return prepared[0], prepared[1]

    def _ask(self) -> None:
        """Raise ContentLost if a kind of content is lost, and the settings ask about that."""
        content = {name: counts.content for name, counts in self.counts.items()}
        kinds = lost_kinds(np.concatenate([_NO_FLAGS, *content.values()]))
        if kinds and self.args.lost_content == "ask":
            raise ContentLost(kinds, content, self.mended)

    def tell_of_content(self) -> None:
        """Warn about content that the chat template omits, doubles or does not let learn."""
        for name, counts in self.counts.items():
            findings = content_findings(counts.content, self.mended, self.args.lost_content)
            for kind, which in findings:
                if kind.code != "no_stop":  # said with the other counts
                    rows = np.flatnonzero(which) + 1
                    what = kind.what.replace("these rows", rows_text(rows.tolist(), len(rows)))
                    logger.warning("%s (%s dataset) %s", what, name, kind.fix)

    def _known_tokens(self, data: AnyDataset, name: str) -> AnyDataset:
        """Raise TrainingDataError for token ids that the model does not have.

        A table is checked now, a stream as its rows are read.
        """
        if "input_ids" not in columns_of(data) or _transforms(data):
            return data
        check: dict[str, Any] = {"vocabulary": self.vocabulary, "name": name}
        if isinstance(data, IterableDataset):
            return data.map(_check_row, with_indices=True, fn_kwargs=check)
        for at, ids in enumerate(data.with_format("numpy", columns=["input_ids"])):
            _check_row(ids, at, **check)
        return data

    def prepare_held_out(self, data: Rows | Mapping[str, Rows] | str | None) -> Any:
        """prepare() for one held-out dataset or a dict of several; a name or None is returned."""
        if data is None or isinstance(data, str):
            return data
        packing = self.args.packing if self.args.eval_packing is None else self.args.eval_packing
        packing = packing and not self.rows_wanted
        if holds_datasets(data):
            return {name: self.prepare(part, name, packing) for name, part in data.items()}
        return self.prepare(data, "eval", packing)

    def collators(self, packs: bool) -> tuple[Collator, Collator]:
        """Return the collator of training, and the one that pads instead of joining rows.

        `packs`: the model keeps packed documents apart.
        """
        args = self.args
        pad, multiple = self.tokenizer.pad_token_id or 0, args.pad_to_multiple_of
        assert not isinstance(multiple, str)  # SFTConfig has read it
        joins = args.padding_free is not False
        joined, padded = (
            SFTCollator(pad, bool(joins), multiple)
            for joins in (packs and joins or args.packing, False)
        )
        processor, limit = self.processor, args.max_length
        if processor is None:
            return joined, padded
        plan = self._plan(None, "train", False)
        return (
            VisionCollator(processor, plan, limit, multiple, joined),
            VisionCollator(processor, plan, limit, multiple, padded),
        )

    def _prepare_images(
        self, data: AnyDataset, plan: Preparation, name: str
    ) -> tuple[AnyDataset, Counts]:
        assert self.processor is not None  # else refuse_images() has raised
        return prepare_images(data, plan, self.processor, name)

    def _plan(self, data: AnyDataset | None, name: str, packing: bool) -> Preparation:
        args = self.args
        options = EncodeOptions(
            max_length=None if packing else args.max_length,
            truncation_mode=args.truncation_mode,
            assistant_only_loss=args.assistant_only_loss,
            completion_only_loss=args.completion_only_loss,
            last_turn_only=args.last_turn_only,
            lost_content="train_without",  # asked about once, for all rows
            eos_token=args.eos_token,
            control_tokens=args.control_tokens,
            thinking=args.thinking,
            template_date=args.template_date,
            as_written=args.as_written,
        )
        return Preparation(
            tokenizer=self.tokenizer,
            options=options,
            text_field=args.dataset_text_field,
            formatting_func=self.formatting_func,
            packing=args.packing_strategy if packing else None,
            pack_length=args.max_length,
            shuffle_seed=args.seed if args.shuffle_dataset else None,
            num_proc=args.dataset_num_proc,
            vocabulary=self.vocabulary,
            positions=self.positions,
            lost_content=args.lost_content,
            on_rows=self._row_counter(data, name),
        )

    def _row_counter(self, data: AnyDataset | None, name: str) -> Callable[[int], None] | None:
        report = self.progress
        if report is None or data is None or isinstance(data, IterableDataset):
            return None
        return lambda done: report(name, done, len(data))


def _transforms(data: AnyDataset) -> bool:
    return not isinstance(data, IterableDataset) and data.format["type"] == "custom"


def _check_row(row: dict[str, Any], at: int, vocabulary: int, name: str) -> dict[str, Any]:
    wrong = [int(token) for token in row["input_ids"] if not 0 <= token < vocabulary]
    if wrong:
        raise TrainingDataError(
            f"Token {wrong[0]} does not exist in a model of {vocabulary} tokens.",
            f"{name} dataset, row {at + 1}",
            "Use the tokenizer that belongs to the model, or resize its embedding first.",
        )
    return row
