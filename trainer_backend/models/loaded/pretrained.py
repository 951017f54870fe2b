"""A model or tokenizer named by its id: which class to load it with, and in which format.

Adapters are the trainer's and peft's work; the app's own model folders are model.py.
"""

import copy
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from trainer_backend.errors import TrainingDataError

logger = logging.getLogger(__name__)


def load_model(name: str, init_kwargs: Mapping | None, trust_remote_code: bool, quantization=None):
    """Load a model by id: float32 unless told otherwise, the class its config names."""
    settings = dict(init_kwargs or {})
    if quantization is not None:
        if "quantization_config" in settings:
            raise ValueError(
                "quantization_config is set twice: as an argument of the trainer and in "
                "model_init_kwargs. Keep one of them."
            )
        settings["quantization_config"] = quantization
    settings.setdefault("trust_remote_code", trust_remote_code)
    dtype = settings.pop("torch_dtype", settings.pop("dtype", torch.float32))
    settings["dtype"] = (
        getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype
    )
    config = AutoConfig.from_pretrained(
        name, trust_remote_code=settings["trust_remote_code"], revision=settings.get("revision")
    )
    named = (config.architectures or [""])[0]
    loader = getattr(transformers, named, None) or AutoModelForCausalLM
    return loader.from_pretrained(name, **settings)


def adapted(base, folder, trainable: bool) -> PeftModel:
    """Put the adapter of a folder on its base model. Raises ValueError if it does not fit."""
    try:
        return PeftModel.from_pretrained(base, folder, is_trainable=trainable)
    except (RuntimeError, ValueError) as error:  # other sizes, or other names of layers
        made_for = _adapter_config(folder).get("base_model_name_or_path") or "an unnamed model"
        shown = getattr(base.config, "_name_or_path", "") or type(base).__name__
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"The adapter {folder} was made for {short(made_for)} and does not fit "
            f"{short(shown)}: {reason[min(1, len(reason) - 1)].strip()[:200]}"
        ) from error


def load_weights(model: PreTrainedModel, folder: str | Path) -> None:
    """Put the weights saved in a folder into a model, as from_pretrained reads them.

    A file may name weights otherwise than the model does (experts, image towers); Trainer goes by
    the names alone and leaves out what it does not find. Raises RuntimeError if any is missing.
    """
    config = copy.deepcopy(model.config)
    saved, facts = type(model).from_pretrained(
        folder, config=config, dtype=model.dtype, local_files_only=True, output_loading_info=True
    )
    if missing := [*facts["missing_keys"], *facts["mismatched_keys"]]:
        raise RuntimeError(f"{folder} does not hold this model: {missing[0]} is missing.")
    model.load_state_dict(saved.state_dict())


@contextmanager
def kept_formats(model) -> Iterator[None]:
    """Keep the number formats of weights that learn while they are read again.

    peft reads an adapter as float32, also one that trains in bf16 on a quantised base.
    """
    formats = {name: one.dtype for name, one in model.named_parameters() if one.requires_grad}
    yield
    for name, one in model.named_parameters():
        if one.dtype != formats.get(name, one.dtype):
            one.data = one.data.to(formats[name])


def short(name: str) -> str:
    """A model's name without the folders of this machine."""
    return name.rstrip("/").split("/")[-1] if name.startswith(("/", ".")) else name


def _adapter_config(folder) -> dict:
    """Settings of the adapter that lies in a folder; empty if none does."""
    file = Path(folder) / "adapter_config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def load_processing_class(model, revision: str | None, trust_remote_code: bool):
    """Load the processor, or else the tokenizer, that belongs to a model."""
    name = model.config._name_or_path
    if not name:
        raise ValueError(
            "This model was not loaded from anywhere: pass processing_class=tokenizer."
        )
    settings = {"trust_remote_code": trust_remote_code, "revision": revision}
    try:
        return AutoProcessor.from_pretrained(name, **settings)
    except ImportError as error:
        raise needs_package(error, name) from error
    except (ValueError, OSError) as error:
        if "torchvision" in str(error):
            raise needs_package(error, name) from error
        return AutoTokenizer.from_pretrained(name, **settings)


def needs_package(error: Exception, where: str) -> TrainingDataError:
    """What to install for a processor that reads images in a way of its own."""
    package = "num2words" if "num2words" in str(error) else "torchvision"
    return TrainingDataError(
        f"This model's image reader needs the package {package}, which is not installed.",
        where,
        f"Run: pip install {package}. Or choose a model that does without, like SmolVLM.",
    )


def short_name(model) -> str:
    """Name a run after its model."""
    name = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "")
    return name.rstrip("/").split("/")[-1] or "model"


def open_model(model, args, quantization_config):
    """Load a model given by id or folder; one that is loaded is taken as it is.

    A folder that holds an adapter gives its base model with the adapter on it, to be continued.
    """
    if isinstance(model, str):
        base = _adapter_config(model).get("base_model_name_or_path")
        own = base is not None and not (Path(model) / "config.json").exists()
        loaded = load_model(
            base if own else model,
            args.model_init_kwargs,
            args.trust_remote_code,
            quantization_config,
        )
        return adapted(loaded, model, trainable=True) if own else loaded
    if args.model_init_kwargs or quantization_config is not None:
        logger.warning(
            "model_init_kwargs and quantization_config are ignored: the model is loaded."
        )
    return model


def open_processing_class(model, args):
    """Load the processor or tokenizer that belongs to the model."""
    revision = (args.model_init_kwargs or {}).get("revision")
    return load_processing_class(model, revision, args.trust_remote_code)


def tokenizer_of(processing_class):
    """Return the tokenizer inside whatever processing class was given."""
    if isinstance(processing_class, ProcessorMixin):
        return processing_class.tokenizer
    if isinstance(processing_class, PreTrainedTokenizerBase):
        return processing_class
    raise TypeError("processing_class must be a tokenizer or a processor.")
