"""The settings of compared runs side by side, and in which of them the runs differ."""

from collections.abc import Sequence
from typing import Any

from trainer_backend.comparison.compared import Compared
from trainer_backend.recipe import SETTINGS

SHORT = 8  # letters of a hash that a person reads
DATASET, STARTED_FROM = "dataset", "started_from"


def settings_side_by_side(runs: Sequence[Compared]) -> dict[str, list[Any]]:
    """{setting: the value of each run}: the data, where the weights come from, then the recipe.

    A setting that a run's version did not know has its default value, with which the run trained.
    """
    others = {name: None for one in runs for name in one.settings if name not in SETTINGS}
    return {
        DATASET: _datasets(runs),
        **{
            name: _bases(runs) if name == "base_model" else [one.settings.get(name) for one in runs]
            for name in [*SETTINGS, *others]
        },
        STARTED_FROM: [_started_from(one) for one in runs],
    }


def differences(settings: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The settings whose values are not all the same."""
    return {name: values for name, values in settings.items() if not _are_equal(values)}


def _are_equal(values: Sequence[Any]) -> bool:
    return all(one == values[0] and type(one) is type(values[0]) for one in values) or all(
        isinstance(one, int | float) and not isinstance(one, bool) and one == values[0]
        for one in values
    )


def _datasets(runs: Sequence[Compared]) -> list[str]:
    """The names of the data; other data of the same name has a part of its hash."""
    keys = [one.data for one in runs]
    names = [str(one.spec["dataset"]["name"]) for one in runs]
    if len(set(keys)) == 1:
        return [names[0]] * len(runs)
    return _told_apart(names, keys)


def _bases(runs: Sequence[Compared]) -> list[str]:
    """The base models; other weights under the same name have a part of their hash."""
    names = [str(one.settings["base_model"]) for one in runs]
    return _told_apart(names, [_weights(one) for one in runs])


def _weights(one: Compared) -> str:
    """The hashes of the base model's weights; "" for a run that never pinned them."""
    files = (one.spec.get("base") or {}).get("files") or {}
    known = [f"{facts.get('sha256')}" for name, facts in sorted(files.items()) if "safe" in name]
    return "".join(known)


def _told_apart(names: Sequence[str], keys: Sequence[str]) -> list[str]:
    found = []
    for name, key in zip(names, keys, strict=True):
        same = {other for kin, other in zip(names, keys, strict=True) if kin == name and other}
        found.append(f"{name} ({key[:SHORT]})" if key and len(same) > 1 else name)
    return found


def _started_from(one: Compared) -> str | None:
    """The run and the step whose weights a run began with; None for those of the base model."""
    start = one.spec.get("start")
    return f"{start.get('run')}, step {start.get('step')}" if isinstance(start, dict) else None
