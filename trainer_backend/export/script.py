"""Writes a folder that repeats a run without the app: a Python script, its rows, its recipe."""

import json
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.downloads import Progress
from trainer_backend.hardware import hardware
from trainer_backend.models import locate_model
from trainer_backend.models.loaded.load import (
    fetch_model,
    load_processing,
    reads_images,
)
from trainer_backend.models.loaded.pretrained import tokenizer_of
from trainer_backend.recipe import Recipe, is_relevant, save_recipe
from trainer_backend.recipe.extra_arguments import parse_extra_arguments
from trainer_backend.recipe.resolve import resolve
from trainer_backend.runs import Run
from trainer_backend.tokens.chat_template import PLAIN_CHAT_TEMPLATE, writes_date
from trainer_backend.training.lora.config import lora_config
from trainer_backend.training.sft_config import SFTConfig
from trainer_backend.worker.arguments import training_arguments, training_rows
from trainer_backend.worker.facts import RunFacts

TORCH_TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
SETTINGS = (
    *("num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "learning_rate", "lr_scheduler_type", "warmup_steps"),
    *("optim", "weight_decay", "max_grad_norm", "gradient_checkpointing", "max_length", "packing"),
    *("assistant_only_loss", "seed", "logging_steps", "logging_first_step"),
)
# settings that are written only where they are not the usual ones
RARE = (
    *("truncation_mode", "last_turn_only", "loss_type", "label_smoothing_factor"),
    *("neftune_noise_alpha", "loraplus_lr_ratio", "adam_beta1", "adam_beta2"),
    "activation_offloading",
)
ADAPTER = ("r", "lora_alpha", "lora_dropout", "target_modules", "task_type")
RARE_IN_ADAPTER = (
    *("layers_to_transform", "layers_pattern", "modules_to_save", "ensure_weight_tying"),
    *("init_lora_weights", "use_rslora", "use_dora"),
)
HEAD = """\
# Repeats a run of SFT Studio: same model, rows, settings and seed.
# The package trainer_backend is part of SFT Studio: run "pip install ." in its source tree, or put
# that folder on PYTHONPATH; then "pip install -r requirements.txt" and "python train.py".
import json
from pathlib import Path

import torch
{imports}
from trainer_backend import SFTConfig, SFTTrainer

HERE = Path(__file__).resolve().parent
MODEL = {model}


def rows(name):
    # conversations stay JSON text: in a table all rows would get the same keys
    with open(HERE / name, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
{images}            yield {{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()}}


{name} = {loader}.from_pretrained(MODEL)
"""
WITH_IMAGES = """\
            if "images" in row:  # files of this folder
                images = [str(HERE / name) for name in row.pop("images") or []]
                yield {**{k: json.dumps(v) for k, v in row.items()}, "images": images}
                continue
"""
QUANTIZED = """\
compute = torch.float32
if torch.cuda.is_available():
    compute = torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
model = {kind}.from_pretrained(
    MODEL,
    dtype=compute,
    quantization_config=BitsAndBytesConfig({settings}),
    device_map={{"": 0 if torch.cuda.is_available() else "cpu"}},
)
"""
LOAD = "model = {kind}.from_pretrained(MODEL, dtype=torch.{dtype})\n"
INT4 = (
    'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, '
    "bnb_4bit_compute_dtype=compute"
)
TAIL = """\
trainer = SFTTrainer(
    model=model,
    args=settings,
    train_dataset=list(rows("train.jsonl")),
    eval_dataset={held_out},
    processing_class={name},
    peft_config={adapter},
)
trainer.train()
{last}trainer.save_model(str(HERE / "output" / "final"))
trainer.save_state()  # the losses: output/trainer_state.json
"""


def write_script(run: Run, folder: Path, progress: Progress) -> None:
    """Write the script and all it needs. Raises UserError when data or model are missing."""
    facts = _as_trained(RunFacts.load(run))
    train_rows, eval_rows = training_rows(facts)
    _write_rows(train_rows, folder / "train.jsonl")
    if eval_rows:
        _write_rows(eval_rows, folder / "eval.jsonl")
    has_images = "images" in train_rows.column_names
    save_recipe(run.recipe(), folder / "recipe.yaml")
    (folder / "requirements.txt").write_text(_requirements(facts), encoding="utf-8")
    model = fetch_model(run.home, facts.recipe.base_model, progress, facts.revision)
    code = _script(facts, _Parts.of(model), has_eval=bool(eval_rows), has_images=has_images)
    (folder / "train.py").write_text(code, encoding="utf-8")


def _as_trained(facts: RunFacts) -> RunFacts:
    """The run's facts with a resolved recipe, in the precision that it was trained in."""
    recipe, _ = resolve(facts.recipe, hardware())
    precision = facts.run.state().get("precision") or recipe.precision
    return replace(facts, recipe=replace(recipe, precision=precision))


def _write_rows(rows: Dataset, file: Path) -> None:
    """Write rows as JSON lines, and their images beside them."""
    with open(file, "w", encoding="utf-8") as out:
        for row in rows:
            plain = {name: _plain(name, value, file.parent) for name, value in row.items()}
            out.write(json.dumps(plain, ensure_ascii=False) + "\n")


def _plain(name: str, value: Any, folder: Path) -> Any:
    if name == "text" or value is None:
        return value
    return _copied(value, folder) if name == "images" else json.loads(value)


def _copied(images: list[str], folder: Path) -> list[str]:
    """Copy images, which are named by their content; returns their names in the folder."""
    names = [f"images/{Path(image).name}" for image in images]
    for image, name in zip(images, names, strict=True):
        if not (folder / name).exists():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(image, folder / name)
    return names


def _requirements(facts: RunFacts) -> str:
    """Versions of the packages the run was trained with, without build suffixes (“+cpu”)."""
    recipe, versions = facts.recipe, facts.spec["packages"]
    needed = {"torch", "transformers", "peft", "datasets", "accelerate"}
    if recipe.precision in ("int8", "int4") or recipe.optim.endswith("8bit"):
        needed.add("bitsandbytes")
    lines = [f"{name}=={versions[name].split('+')[0]}" for name in versions if name in needed]
    if recipe.report_to != "none":
        lines.append(recipe.report_to)
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Parts:
    """What the script loads: the class of the model, and its tokenizer or processor."""

    kind: str
    processing: Tokenizer | ProcessorMixin
    skeleton: PreTrainedModel  # without weights, on the meta device

    @classmethod
    def of(cls, model: Path) -> "_Parts":
        config = AutoConfig.from_pretrained(model, trust_remote_code=False, local_files_only=True)
        loader = AutoModelForImageTextToText if reads_images(config) else AutoModelForCausalLM
        kind = loader.__name__
        with torch.device("meta"):
            skeleton = loader.from_config(config)
        local: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        if isinstance(load_processing(model), ProcessorMixin):
            return cls(kind, AutoProcessor.from_pretrained(model, **local), skeleton)
        return cls(kind, AutoTokenizer.from_pretrained(model, **local), skeleton)

    @property
    def name(self) -> str:
        """The name of its variable in the script."""
        return "processor" if isinstance(self.processing, ProcessorMixin) else "tokenizer"

    @property
    def loader(self) -> str:
        return "AutoProcessor" if self.name == "processor" else "AutoTokenizer"


def _script(facts: RunFacts, parts: _Parts, has_eval: bool, has_images: bool) -> str:
    """The text of train.py."""
    recipe = facts.recipe
    place = locate_model(facts.run.home, recipe.base_model)
    quantized = recipe.precision in ("int8", "int4")
    names = [parts.kind, parts.loader] + ["BitsAndBytesConfig"] * quantized
    imports = f"from transformers import {', '.join(names)}\n"
    if recipe.adapter != "full":
        imports = "from peft import LoraConfig\n" + imports
    held_out = 'list(rows("eval.jsonl"))' if has_eval else "None"
    at_end = has_eval and not recipe.eval_steps
    lines = [
        HEAD.format(
            imports=imports,
            model=_literal(str(place.folder or recipe.base_model)),
            images=WITH_IMAGES if has_images else "",
            name=parts.name,
            loader=parts.loader,
        ),
        _template_line(parts),
        _model_lines(recipe, quantized, parts.kind),
        _settings_lines(facts, has_eval, has_images, tokenizer_of(parts.processing)),
        TAIL.format(
            name=parts.name,
            held_out=held_out,
            adapter=_adapter(lora_config(recipe, parts.skeleton)),
            last="trainer.evaluate()\n" if at_end else "",
        ),
    ]
    return "".join(lines)


def _literal(value: object) -> str:
    """A value as Python source; JSON's escapes in texts are valid Python."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | list) else repr(value)


def _template_line(parts: _Parts) -> str:
    """The chat template that the app gives to a model without one."""
    own = getattr(parts.processing, "chat_template", None)
    if own or getattr(tokenizer_of(parts.processing), "chat_template", None):
        return ""
    return f"{parts.name}.chat_template = {_literal(PLAIN_CHAT_TEMPLATE)}\n"


def _model_lines(recipe: Recipe, quantized: bool, kind: str) -> str:
    if quantized:
        settings = INT4 if recipe.precision == "int4" else "load_in_8bit=True"
        return QUANTIZED.format(settings=settings, kind=kind)
    if recipe.adapter != "full":
        return LOAD.format(dtype=TORCH_TYPES[recipe.precision], kind=kind)
    why = "# trained weights stay in float32: small updates would be lost in 16 bits\n"
    return (why if recipe.precision != "fp32" else "") + LOAD.format(dtype="float32", kind=kind)


def _settings_lines(facts: RunFacts, has_eval: bool, has_images: bool, tokenizer: Tokenizer) -> str:
    """SFTConfig(...) with the values that a worker gives it."""
    recipe = facts.recipe
    # bf16 and fp16 are set below: SFTConfig would refuse one that this machine lacks
    plain = replace(facts, recipe=replace(recipe, precision="fp32"))
    given = training_arguments(plain, has_eval, has_images)
    values = {name: getattr(given, name) for name in SETTINGS if is_relevant(name, recipe)}
    values["bf16"], values["fp16"] = recipe.precision == "bf16", recipe.precision == "fp16"
    values |= {"logging_nan_inf_filter": False, "report_to": recipe.report_to}
    values |= _cadences(given, recipe, has_eval) | _template_settings(given, tokenizer)
    usual = {one.name: one.default for one in fields(SFTConfig)}
    # 0 is the recipe's “off” where the trainer says None
    rare = [n for n in RARE if getattr(given, n) not in (usual[n], 0.0 if usual[n] is None else ())]
    further = parse_extra_arguments(recipe.extra_arguments)
    values |= {name: getattr(given, name) for name in [*rare, *further]}
    if recipe.max_steps < 0:
        del values["max_steps"]
    lines = "".join(
        f"    {name}={_literal(getattr(value, 'value', value))},\n"  # enums by their value
        for name, value in values.items()
    )
    return f'settings = SFTConfig(\n    output_dir=str(HERE / "output"),\n{lines})\n'


def _template_settings(given: SFTConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """How rows become text, as far as it is not the usual way; what was decided is always said."""
    usual = {"as_written": False, "eos_token": None}
    names = ("chat_template", "thinking", "control_tokens", "lost_content", *usual)
    values = {name: getattr(given, name) for name in names}
    changed = {name: one for name, one in values.items() if one != usual.get(name, "")}
    if writes_date(str(tokenizer.chat_template)):
        changed["template_date"] = given.template_date
    return changed


def _cadences(given: SFTConfig, recipe: Recipe, has_eval: bool) -> dict[str, Any]:
    """When to evaluate and to save; a 0 in the recipe means at the end, which the script does."""
    values: dict[str, Any] = {"save_strategy": "steps" if recipe.save_steps else "no"}
    if recipe.save_steps:
        values |= {"save_steps": given.save_steps, "save_total_limit": 2}
    if has_eval:
        values["per_device_eval_batch_size"] = given.per_device_eval_batch_size
    if has_eval and recipe.eval_steps:
        values |= {"eval_strategy": "steps", "eval_steps": given.eval_steps}
    return values


def _adapter(config: LoraConfig | None) -> str:
    if config is None:
        return "None"
    values = {name: getattr(config, name) for name in ADAPTER}
    usual = LoraConfig()
    for name in RARE_IN_ADAPTER:
        if getattr(config, name) != getattr(usual, name):
            values[name] = getattr(config, name)
    plain = {n: sorted(v) if isinstance(v, set) else v for n, v in values.items()}
    lines = "".join(f"        {name}={_literal(value)},\n" for name, value in plain.items())
    return f"LoraConfig(\n{lines}    )"
