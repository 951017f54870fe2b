"""Further arguments of SFTConfig in a recipe: text, one “name: value” a line, read and checked.

Names and kinds of value come from a table, so that the page can check them without torch. What an
argument does is not known here.
"""

import json
import math
from difflib import get_close_matches
from typing import Any

import yaml

from trainer_backend.errors import UserError
from trainer_backend.recipe.labels import label
from trainer_backend.recipe.recipe import SETTINGS
from trainer_backend.recipe.sft_arguments import ARGUMENTS

FIELD = "extra_arguments"
ONE_A_LINE = "Write one “name: value” a line, for example “adam_epsilon: 1e-6”."
# arguments of SFTConfig that a setting of another name stands for
STAND_INS = {
    "bf16": "precision",
    "fp16": "precision",
    "bf16_full_eval": "precision",
    "fp16_full_eval": "precision",
    "load_best_model_at_end": "load_best_at_end",
    "max_seq_length": "max_length",
    "chat_template_path": "chat_template",
    "eval_strategy": "eval_steps",
    "save_strategy": "save_steps",
    "logging_strategy": "logging_steps",
    "auto_find_batch_size": "on_out_of_memory",
    "activation_checkpointing": "gradient_checkpointing",
    "fsdp": "distributed",
    "fsdp_config": "distributed",
    "completion_only_loss": "assistant_only_loss",
}
_FOLDER = "A run keeps its checkpoints in its own folder, so that it can be resumed."
_HUB = "A run sends nothing to the Hub; export it and upload the folder."
_LOG = "The live chart and the log of the run need it as it is."
_ROWS = "Rows are read and prepared in one way, for the token view and the training alike."
_DEVICES = "Processes and devices are set up when the run starts."
_MODEL = "The model is loaded before, without any code that comes with it."
_BEST = "The lowest eval loss decides which checkpoint is best."
_KERNELS = "The loss and the layers have quick kernels already."
_OWNED = {
    _FOLDER: "output_dir save_total_limit save_only_model save_on_each_node enable_jit_checkpoint "
    "resume_from_checkpoint ignore_data_skip restore_callback_states_from_checkpoint",
    _HUB: "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push "
    "hub_revision",
    _LOG: "run_name disable_tqdm log_level log_level_replica log_on_each_node logging_first_step "
    "logging_nan_inf_filter skip_memory_metrics",
    _ROWS: "remove_unused_columns label_names dataset_text_field dataset_kwargs template_date "
    "as_written prediction_loss_only include_for_metrics batch_eval_metrics "
    "eval_do_concat_batches eval_use_gather_object",
    _DEVICES: "do_train do_eval do_predict local_rank deepspeed parallelism_config use_cpu "
    "accelerator_config ddp_backend",
    _MODEL: "model_init_kwargs trust_remote_code",
    _BEST: "metric_for_best_model greater_is_better",
    _KERNELS: "use_liger_kernel liger_kernel_config",
}
OWNED = {name: why for why, names in _OWNED.items() for name in names.split()}
KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "mapping": "a mapping {name: value}",
    "list": "a list [a, b]",
    "text": "a text",
    "nothing": "null",
}
_NO = object()


def parse_extra_arguments(text: str) -> dict[str, Any]:
    """{argument of SFTConfig: value} from YAML text, values in the argument's type.

    Raises UserError for text that is no YAML mapping, an unknown argument, one that has a setting
    of its own or that a run decides itself, or a value of the wrong kind.
    """
    pairs = _pairs(text)
    for name in pairs:
        _check_name(name)
    return {name: _value(name, given) for name, given in pairs.items()}


def _pairs(text: str) -> dict[str, Any]:
    try:
        events = list(yaml.parse(text, Loader=yaml.SafeLoader))
        if any(isinstance(one, yaml.AliasEvent) for one in events):
            raise _bad("Further arguments cannot repeat a part by its name (*name).", "")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date like 2026-99
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else ""
        raise _bad("The further arguments are not valid YAML.", line) from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise _bad("The further arguments are no list of names and values.", "")
    names = [str(key.value) for key, _ in node.value]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise _bad(f"“{twice[0][:60]}” is set twice.", "", "Keep one of the lines.")
    return {str(name): value for name, value in values.items()}


def _bad(what: str, line: str, fix: str = ONE_A_LINE) -> UserError:
    return UserError(what, f"{label(FIELD)}{', ' if line else ''}{line}", fix)


def _check_name(name: str) -> None:
    own = name if name in SETTINGS else STAND_INS.get(name)
    if own:
        what = f"“{name[:60]}” has a setting of its own."
        raise _bad(what, "", f"Set “{label(own)}” ({own}) instead, and leave the line out.")
    if name in OWNED:
        raise _bad(f"“{name}” cannot be set for a run.", "", f"Leave the line out. {OWNED[name]}")
    if name not in ARGUMENTS:
        free = [one for one in ARGUMENTS if one not in OWNED]
        near = get_close_matches(name, [*dict.fromkeys([*free, *SETTINGS])], n=3, cutoff=0.5)
        fix = f"Did you mean {' or '.join(near)}?" if near else "See the names of SFTConfig."
        raise _bad(f"SFTConfig has no argument “{name[:60]}”.", "", fix)


def _value(name: str, given: object) -> Any:
    kinds = ARGUMENTS[name].split()
    for kind in sorted(kinds, key=list(KINDS).index):  # the narrowest first
        found = _as(kind, given)
        if found is not _NO:
            return found
    allowed = " or ".join(KINDS[kind] for kind in sorted(kinds, key=list(KINDS).index))
    raise _bad(f"“{name}” cannot be {str(given)[:60]!r}.", "", f"Give it {allowed}.")


def _as(kind: str, given: object) -> Any:
    """The value as one kind of the table, or _NO."""
    if kind in ("int", "float"):
        return _number(given, kind == "int")
    if kind == "mapping" and isinstance(given, str):
        given = _json_mapping(given)
    types = {"bool": bool, "text": str, "list": list, "mapping": dict, "nothing": type(None)}
    return given if isinstance(given, types[kind]) and _is_plain(given) else _NO


def _number(given: object, whole: bool) -> Any:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return _NO
    try:
        number = float(given)  # YAML reads 1e-6 as a text
    except (ValueError, OverflowError):
        return _NO
    if not math.isfinite(number) or (whole and number != int(number)):
        return _NO
    return int(number) if whole else number


def _json_mapping(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_plain(value: object) -> bool:
    """Whether it holds only what JSON has: no dates, no sets, no bytes."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
