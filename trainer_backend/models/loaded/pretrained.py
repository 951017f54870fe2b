"""What a script passes as model and processing class: ids and folders are loaded, objects kept.

Nothing of the app is known here; checks of untrusted model folders are elsewhere.
"""

import copy
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import bitsandbytes
import torch
import transformers
from peft import PeftModel
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from trainer_backend.errors import TrainingDataError

logger = logging.getLogger(__name__)
_SAVED = ".token_adapter.base_layer.weight"  # an embedding in an adapter's file
PAD_VOCABULARY = 64  # an embedding that grows has a multiple of this many rows
AnyModel: TypeAlias = PreTrainedModel | PeftModel


class LoadingSettings(Protocol):
    """The settings of a trainer with which models are loaded."""

    model_init_kwargs: dict[str, Any] | str | None
    trust_remote_code: bool
    bf16: bool | None
    fp16: bool


def load_model(
    name: str,
    init_kwargs: Mapping[str, Any] | None,
    trust_remote_code: bool,
    quantization: QuantizationConfigMixin | None = None,
    computes_in: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Load a model by id or folder as the class in its config, in float32 by default.

    Weights that bitsandbytes stores in 4 or 8 bits are unpacked, and the others kept, in the dtype
    `computes_in` of training unless another is asked for: float32 would be cast in every product.
    `init_kwargs` go to from_pretrained(). Raises ValueError when quantization is set twice.
    """
    settings = dict(init_kwargs or {})
    if quantization is not None:
        if "quantization_config" in settings:
            raise ValueError(
                "quantization_config is set twice: as an argument of the trainer and in "
                "model_init_kwargs. Keep one of them."
            )
        settings["quantization_config"] = quantization
    settings.setdefault("trust_remote_code", trust_remote_code)
    config = AutoConfig.from_pretrained(
        name, trust_remote_code=settings["trust_remote_code"], revision=settings.get("revision")
    )
    dtype = settings.pop("torch_dtype", settings.pop("dtype", None))
    if dtype is None:
        dtype = _settle_dtype(settings, config, computes_in)
    settings["dtype"] = (
        getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype
    )
    named = (config.architectures or [""])[0]
    loader = getattr(transformers, named, None) or AutoModelForCausalLM
    return loader.from_pretrained(name, **settings)


def _settle_dtype(
    settings: dict[str, Any], config: PreTrainedConfig, computes_in: torch.dtype
) -> torch.dtype:
    """The dtype to load in where none is asked for; 4-bit products then run in it too."""
    asked = settings.get("quantization_config")
    quantization = asked or getattr(config, "quantization_config", None)
    if isinstance(quantization, QuantizationConfigMixin):
        quantization = quantization.to_dict()
    if not quantization or quantization.get("quant_method", "bitsandbytes") != "bitsandbytes":
        return torch.float32
    if isinstance(asked, BitsAndBytesConfig) and asked.bnb_4bit_compute_dtype == torch.float32:
        asked = copy.copy(asked)  # float32 stands for “not given”
        asked.bnb_4bit_compute_dtype = computes_in
        settings["quantization_config"] = asked
    return computes_in


def adapted(base: PreTrainedModel, folder: str | Path, trainable: bool) -> PeftModel:
    """Put the adapter of a folder on its base model. Raises ValueError if it does not fit.

    The embedding of `base` grows to hold tokens that the adapter has learned beside it.
    """
    _make_room(base, Path(folder))
    try:
        if _adapter_config(folder).get("use_dora"):
            keep_unpacked(base)
        return PeftModel.from_pretrained(base, folder, is_trainable=trainable)
    except (RuntimeError, ValueError) as error:  # other sizes, or other names of layers
        made_for = _adapter_config(folder).get("base_model_name_or_path") or "an unnamed model"
        shown = getattr(base.config, "_name_or_path", "") or type(base).__name__
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"The adapter {folder} was made for {short(made_for)} and does not fit "
            f"{short(shown)}: {reason[min(1, len(reason) - 1)].strip()[:200]}"
        ) from error


def keep_unpacked(model: torch.nn.Module) -> None:
    """Stop 4-bit layers from repacking themselves for the CPU when they are evaluated.

    The packed form has no gradient, and DoRA cannot measure it: training after an evaluation, and
    the answers of a DoRA adapter, would be wrong without an error.
    """
    for module in model.modules():
        if not isinstance(module, bitsandbytes.nn.Linear4bit):
            continue
        module.support_avx512bf16_for_cpu = False
        weight = cast(bitsandbytes.nn.Params4bit, module.weight)
        if getattr(weight.quant_state, "packing_format_for_cpu", False):
            unpack = bitsandbytes.nn.modules._convert_weight_packed_for_cpu_inverse
            weight.data, weight.quant_state = unpack(weight.data, weight.quant_state)
            module.quant_state = weight.quant_state


def _make_room(base: PreTrainedModel, folder: Path) -> None:
    """Grow the embedding for tokens that were added when the adapter was trained."""
    learned = _adapter_config(folder).get("trainable_token_indices") or {}
    learned = learned.values() if isinstance(learned, dict) else [learned]
    last = max((number for numbers in learned for number in numbers), default=-1)
    if last < len(input_embedding(base)):
        return
    weights, size = folder / "adapter_model.safetensors", last + 1
    size += -size % PAD_VOCABULARY
    if weights.is_file():  # the whole embedding may have been saved with it
        with safe_open(weights, "pt") as file:
            saved = [name for name in file.keys() if name.endswith(_SAVED)]  # noqa: SIM118
            size = max([size, *(file.get_slice(name).get_shape()[0] for name in saved)])
    base.resize_token_embeddings(size, mean_resizing=False)


def load_weights(model: PreTrainedModel, folder: str | Path) -> None:
    """Load the weights of a folder into a model, by way of from_pretrained().

    Files may name weights differently than the model does (experts, vision towers); Trainer matches
    names only and skips the rest. Raises RuntimeError if a weight is missing.
    """
    config = copy.deepcopy(model.config)
    loaded: Any = type(model).from_pretrained(  # a pair, because of output_loading_info
        folder, config=config, dtype=model.dtype, local_files_only=True, output_loading_info=True
    )
    saved, facts = loaded
    if missing := [*facts["missing_keys"], *facts["mismatched_keys"]]:
        raise RuntimeError(f"{folder} does not hold this model: {missing[0]} is missing.")
    model.load_state_dict(saved.state_dict())


@contextmanager
def kept_formats(model: torch.nn.Module) -> Iterator[None]:
    """Keep the dtypes of trained weights while they are loaded again.

    peft loads an adapter in float32, even if it trains in bf16 on a quantised base.
    """
    formats = {name: one.dtype for name, one in model.named_parameters() if one.requires_grad}
    yield
    for name, one in model.named_parameters():
        if one.dtype != formats.get(name, one.dtype):
            one.data = one.data.to(formats[name])


def input_embedding(model: AnyModel) -> torch.Tensor:
    """Weights of the input embedding, [vocabulary, hidden]."""
    return cast(torch.Tensor, model.get_input_embeddings().weight)


def short(name: str) -> str:
    """A Hub id as it is; of a path only the last part."""
    return name.rstrip("/").split("/")[-1] if name.startswith(("/", ".")) else name


def _adapter_config(folder: str | Path) -> dict[str, Any]:
    """Settings of the adapter in a folder; empty if there is none."""
    file = Path(folder) / "adapter_config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def load_processing_class(
    model: AnyModel, revision: str | None, trust_remote_code: bool
) -> Tokenizer | ProcessorMixin:
    """Load the processor of a model, or else its tokenizer.

    Raises ValueError for a model built in code, TrainingDataError when a package is missing.
    """
    name = model.config._name_or_path
    if not name:
        raise ValueError(
            "This model was built in code, not loaded: pass processing_class=tokenizer."
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
    """The error for a processor that needs torchvision or num2words: what to install."""
    package = "num2words" if "num2words" in str(error) else "torchvision"
    return TrainingDataError(
        f"This model's image reader needs the package {package}, which is not installed.",
        where,
        f"Run: pip install {package}. Or choose a model that works without it, like SmolVLM.",
    )


def short_name(model: str | AnyModel) -> str:
    """The last part of a model's id or folder; "model" for one that was built in code."""
    name = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "")
    return name.rstrip("/").split("/")[-1] or "model"


def open_model(
    model: str | AnyModel,
    args: LoadingSettings,
    quantization_config: QuantizationConfigMixin | None,
) -> AnyModel:
    """Load a model given by id or folder; a loaded one is returned as it is.

    A folder with an adapter gives its base model with the adapter on it, trainable.
    """
    if isinstance(model, str):
        base = _adapter_config(model).get("base_model_name_or_path")
        own = base is not None and not (Path(model) / "config.json").exists()
        loaded = load_model(
            str(base) if own else model,
            _init_kwargs(args),
            args.trust_remote_code,
            quantization_config,
            torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32,
        )
        return adapted(loaded, model, trainable=True) if own else loaded
    if args.model_init_kwargs or quantization_config is not None:
        logger.warning(
            "model_init_kwargs and quantization_config are ignored: the model is loaded already."
        )
    return model


def open_processing_class(model: AnyModel, args: LoadingSettings) -> Tokenizer | ProcessorMixin:
    """load_processing_class() with the revision and trust of the settings."""
    return load_processing_class(model, _init_kwargs(args).get("revision"), args.trust_remote_code)


def _init_kwargs(args: LoadingSettings) -> dict[str, Any]:
    given = args.model_init_kwargs
    return given if isinstance(given, dict) else {}  # never text once the settings are read


def tokenizer_of(processing_class: object) -> Tokenizer:
    """The tokenizer of a processing class. Raises TypeError for anything else."""
    if isinstance(processing_class, ProcessorMixin):
        return processing_class.tokenizer
    if isinstance(processing_class, Tokenizer):
        return processing_class
    raise TypeError("processing_class must be a tokenizer or a processor.")
