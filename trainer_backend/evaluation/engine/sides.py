"""The two models of a run, base and tuned, each as a context in which it can be asked.

Nothing is asked here.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel

from trainer_backend.downloads import Progress
from trainer_backend.models.loaded.load import fetch_model, load_base, load_tuned
from trainer_backend.models.loaded.pretrained import AnyModel
from trainer_backend.runs.target import Target

Side = Callable[[], AbstractContextManager[AnyModel]]


@dataclass(frozen=True)
class Sides:
    """The base model and the tuned one. For an adapter both are one model, switched."""

    base: Side
    tuned: Side


def of_adapter(model: PeftModel) -> Sides:
    """The sides of one model with an adapter on it."""

    @contextmanager
    def base() -> Iterator[AnyModel]:
        with model.disable_adapter():
            yield model

    return Sides(base, lambda: nullcontext(model))


def of_two(base: Path, tuned: AnyModel | Path, precision: str) -> Sides:
    """The sides of a model whose base is not in it: that is a folder, the tuned one may be loaded.

    What is loaded for a side is freed when its context ends.
    """
    if isinstance(tuned, Path):
        return Sides(_loaded(base, precision), _loaded(tuned, precision))
    return Sides(_loaded(base, precision), lambda: nullcontext(tuned))


def _loaded(folder: Path, precision: str) -> Side:
    @contextmanager
    def side() -> Iterator[AnyModel]:
        model = load_base(folder, precision).eval()
        try:
            yield model
        finally:
            del model
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    return side


def open_sides(home: Path, target: Target, progress: Progress) -> tuple[Sides, Path]:
    """The sides of a run's checkpoint, and the folder of its base model.

    Raises UserError when the base model is gone or does not fit the checkpoint.
    """
    assert target.checkpoint is not None  # a run's target
    folder = fetch_model(home, target.base_model, progress, target.revision)
    if not target.has_adapter:
        return of_two(folder, target.checkpoint, target.precision), folder
    progress("Loading the model", 0, 1, "step")
    base = load_base(folder, target.precision)
    model = load_tuned(target.checkpoint, base, target.precision).eval()
    assert isinstance(model, PeftModel)
    return of_adapter(model), folder
