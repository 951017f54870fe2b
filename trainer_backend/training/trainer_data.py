"""What a trainer does with the datasets it is given: each is prepared once, as its settings say.

Rows to tokens is data/prepare.py, rows with pictures data/vision_rows.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from datasets import IterableDataset

from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.tokens.encode import EncodeOptions
from trainer_backend.tokens.inputs import as_dataset, columns_of, holds_datasets
from trainer_backend.tokens.prepare import (
    Counts,
    Preparation,
    prepare_dataset,
    refuse_masks_without_labels,
)
from trainer_backend.tokens.vision import VisionCollator, has_images, prepare_images, refuse_images

Progress = Callable[[str, int, int], None]  # dataset, rows done, rows in all


@dataclass
class TrainerData:
    """Prepares training, held-out and test rows in the same way; `counts` says what was cut."""

    args: object
    tokenizer: object
    processor: object | None  # of a vision-language model
    vocabulary: int
    formatting_func: Callable | None = None
    progress: Progress | None = None
    rows_wanted: bool = False  # held-out logits are compared row by row: nothing may be packed
    counts: dict[str, Counts] = field(default_factory=dict)

    def prepare(self, data, name: str, packing: bool = False):
        """Return the dataset as the collator takes it. Raises ValueError naming row or setting."""
        data = as_dataset(data, name)
        if isinstance(data, IterableDataset):
            self.args.accelerator_config.dispatch_batches = False
        if has_images(columns_of(data)):
            refuse_images(self.processor, self.args, name)
            read, packing = self._prepare_images, False
        elif (self.args.dataset_kwargs or {}).get("skip_prepare_dataset"):
            refuse_masks_without_labels(data, name)
            return self._known_tokens(data, name)
        else:
            read = prepare_dataset
        if isinstance(data, IterableDataset):
            data = self._known_tokens(data, name)
        plan = self._plan(data, name, packing)
        with self.args.main_process_first(local=False, desc=f"preparing the {name} dataset"):
            prepared, self.counts[name] = read(data, plan, name)
        return prepared

    def _known_tokens(self, data, name: str):
        """Tokens that come ready-made must be the model's: a foreign one would end the run.

        A table is looked through at once, a stream as its rows come.
        """
        if "input_ids" not in columns_of(data) or _transforms(data):
            return data
        check = {"vocabulary": self.vocabulary, "name": name}
        if isinstance(data, IterableDataset):
            return data.map(_check_row, with_indices=True, fn_kwargs=check)
        for at, ids in enumerate(data.with_format("numpy", columns=["input_ids"])):
            _check_row(ids, at, **check)
        return data

    def prepare_held_out(self, data):
        """The same for one held-out dataset or several by name; a name alone is left as it is."""
        if data is None or isinstance(data, str):
            return data
        packing = self.args.packing if self.args.eval_packing is None else self.args.eval_packing
        packing = packing and not self.rows_wanted
        if holds_datasets(data):
            return {name: self.prepare(part, name, packing) for name, part in data.items()}
        return self.prepare(data, "eval", packing)

    def collators(self, packs: bool):
        """Return the collator of training, and the one that keeps rows apart."""
        args = self.args
        pad, multiple = self.tokenizer.pad_token_id or 0, args.pad_to_multiple_of
        # NEFTune's noise is scaled by the length of a row: joined rows would get too little
        joins = args.padding_free or (args.padding_free is None and not args.neftune_noise_alpha)
        joined = packs and joins or args.packing
        found = [SFTCollator(pad, bool(joins), multiple) for joins in (joined, False)]
        if self.processor is None:
            return found
        plan = self._plan(None, "train", False)
        return [
            VisionCollator(self.processor, plan, args.max_length, multiple, text) for text in found
        ]

    def _prepare_images(self, data, plan: Preparation, name: str):
        return prepare_images(data, plan, self.processor, name)

    def _plan(self, data, name: str, packing: bool) -> Preparation:
        args = self.args
        options = EncodeOptions(
            max_length=None if packing else args.max_length,
            truncation_mode=args.truncation_mode,
            assistant_only_loss=args.assistant_only_loss,
            completion_only_loss=args.completion_only_loss,
            last_turn_only=args.last_turn_only,
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
            on_rows=self._row_counter(data, name),
        )

    def _row_counter(self, data, name: str) -> Callable[[int], None] | None:
        report = self.progress
        if report is None or isinstance(data, IterableDataset):
            return None
        return lambda done: report(name, done, len(data))


def _transforms(data) -> bool:
    return not isinstance(data, IterableDataset) and data.format["type"] == "custom"


def _check_row(row: dict, at: int, vocabulary: int, name: str) -> dict:
    wrong = [int(token) for token in row["input_ids"] if not 0 <= token < vocabulary]
    if wrong:
        raise TrainingDataError(
            f"Token {wrong[0]} does not exist in a model of {vocabulary} tokens.",
            f"{name} dataset, row {at + 1}",
            "Use the tokenizer that belongs to the model, or resize its embedding first.",
        )
    return row
