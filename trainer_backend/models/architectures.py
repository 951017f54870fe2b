"""Which architectures can be trained here, judged by a model's config.json.

The names come from the source of the installed transformers, which is parsed and never imported:
it would bring torch into the web process. What weights there are is not looked at.
"""

import ast
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer_backend.errors import Problem

WRITES_TEXT = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
READS_IMAGES = "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"
FILLS_GAPS = "MODEL_FOR_MASKED_LM_MAPPING_NAMES"
TWO_HALVES = (
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
)
# the package without which transformers cannot read weights stored by a method
METHOD_PACKAGES = {
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "aqlm": "aqlm",
    "hqq": "hqq",
    "eetq": "eetq",
    "compressed-tensors": "compressed_tensors",
    "torchao": "torchao",
    "quanto": "optimum",
    "bitsandbytes": "bitsandbytes",
}
OTHER_HEADS = ("Classification", "QuestionAnswering", "MaskedLM", "MultipleChoice", "Regression")
CHOOSE = "Choose a model that writes text, such as Qwen3, Llama, Gemma or SmolLM2."


def architecture_problem(config: Mapping[str, Any], where: str) -> Problem | None:
    """Why a model with this config.json cannot be trained here; None if it can.

    A config without a model type, such as the sizes of a preset, is not judged.
    """
    kind = str(config.get("model_type") or "")
    if not kind:
        return None
    found = _architecture(config, kind) or _stored_weights(config)
    return Problem("error", found[0], where, found[1], code="model_unfit") if found else None


def _architecture(config: Mapping[str, Any], kind: str) -> tuple[str, str] | None:
    """(what, fix) of an architecture that does not write text, or that nobody knows."""
    writers = {**_names(WRITES_TEXT), **_names(READS_IMAGES)}
    if needs_own_code(config):
        what = "This model needs its own code, which is never run here."
        return what, "Choose a model that transformers supports without extra code."
    if not writers:
        return None  # transformers is laid out differently: loading will tell
    halves = any(kind in _names(table) for table in TWO_HALVES) and kind not in _names(READS_IMAGES)
    if config.get("is_encoder_decoder", halves):
        what = f"“{kind}” is an encoder-decoder model; only decoder models are trained here."
        return what, CHOOSE
    head = next(iter(config.get("architectures") or []), "")
    fills_gaps = kind in _names(FILLS_GAPS) and not config.get("is_decoder")
    if fills_gaps or any(mark in str(head) for mark in OTHER_HEADS):
        what = f"“{head or kind}” is an encoder or a classifier: it does not write text."
        return what, CHOOSE
    if kind in writers:
        return None
    if kind in known_types():
        what = f"“{kind}” models do not write text, so they cannot be trained on answers."
        return what, CHOOSE
    what = f"transformers {version('transformers')} does not know the architecture “{kind[:60]}”."
    return what, "Update transformers, or choose another model."


def _stored_weights(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """(what, fix) of weights that are stored in a way for which a package is missing."""
    stored = config.get("quantization_config")
    method = str(stored.get("quant_method") or "") if isinstance(stored, Mapping) else ""
    package = METHOD_PACKAGES.get(method)
    if not package or find_spec(package) is not None:
        return None
    what = f"The weights are stored with {method}, which needs the package {package}."
    return what, "Choose the model's full version, or one stored in 4 bits with bitsandbytes."


def needs_own_code(config: Mapping[str, Any]) -> bool:
    """Whether a model can only be loaded by code of its own.

    A model that names such code beside the class of transformers itself does not need it.
    """
    if not config.get("auto_map"):
        return False
    kind = str(config.get("model_type") or "")
    own = {_names(name).get(kind) for name in (WRITES_TEXT, READS_IMAGES)} - {None}
    return not own & set(config.get("architectures") or [])


def reads_images(config: Mapping[str, Any]) -> bool:
    """Whether models of this configuration take images beside text."""
    kind = str(config.get("model_type") or "")
    return kind in _names(READS_IMAGES) and isinstance(config.get("vision_config"), Mapping)


def known_types() -> frozenset[str]:
    """Every model type of the installed transformers."""
    names = {**_names("CONFIG_MAPPING_NAMES"), **_names("MODEL_MAPPING_NAMES")}
    return frozenset(names)


def _names(table: str) -> Mapping[str, str]:
    """{model type: name of the class} of one table of transformers; {} where it is not found."""
    return _tables().get(table, {})


@lru_cache(maxsize=1)
def _tables() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    package = find_spec("transformers")
    if package is None or package.origin is None:
        return found
    folder = Path(package.origin).parent / "models" / "auto"
    for file in ("configuration_auto.py", "auto_mappings.py", "modeling_auto.py"):
        if (folder / file).is_file():
            found |= _tables_of((folder / file).read_text(encoding="utf-8"))
    return found


def _tables_of(source: str) -> dict[str, dict[str, str]]:
    """The tables of names at the top of a module: name = OrderedDict([(key, name), …])."""
    found = {}
    for line in ast.parse(source).body:
        if not (isinstance(line, ast.Assign) and isinstance(line.value, ast.Call)):
            continue
        target, arguments = line.targets[0], line.value.args
        if isinstance(target, ast.Name) and target.id.endswith("_NAMES") and len(arguments) == 1:
            found[target.id] = dict(_pairs(arguments[0]))
    return found


def _pairs(table: ast.expr) -> list[tuple[str, str]]:
    """The pairs of constants of a table; others (lists of classes, other tables) are left out."""
    texts = []
    for pair in getattr(table, "elts", []):
        parts = getattr(pair, "elts", [])
        values = [getattr(part, "value", None) for part in parts]
        if len(values) == 2 and all(isinstance(value, str) for value in values):
            texts.append((str(values[0]), str(values[1])))
    return texts
