"""One run of a comparison, with what is read of its folder once, and the choice of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer_backend.data.store import open_dataset
from trainer_backend.errors import UserError
from trainer_backend.evaluation.results import Evaluation
from trainer_backend.recipe import Recipe
from trainer_backend.runs import LIVE, Run, open_run

MIN_RUNS, MAX_RUNS = 2, 6


@dataclass(frozen=True)
class Compared:
    """A run, named so that no two of a comparison share a name; `head` are its scores, if any."""

    run: Run
    label: str
    spec: dict[str, Any]
    state: dict[str, Any]
    settings: dict[str, Any]
    head: Evaluation | None = None

    @property
    def data(self) -> str:
        """What its data is known by: the hash of the examples, else the id of the dataset."""
        dataset = self.spec["dataset"]
        return str(dataset.get("hash") or dataset.get("id") or "")

    @property
    def held_out(self) -> tuple[Any, ...]:
        """What its held-out rows follow from."""
        seed = self.spec.get("seeds", {}).get("held_out_split", self.settings.get("seed"))
        return self.data, self.settings.get("eval_fraction"), seed

    @property
    def tokenizer(self) -> str:
        """What its tokenizer is known by: the hash of its file, else the base model."""
        files = (self.spec.get("base") or {}).get("files") or {}
        for name in ("tokenizer.json", "tokenizer.model"):
            if digest := (files.get(name) or {}).get("sha256"):
                return str(digest)
        return str(self.settings["base_model"])

    @property
    def is_live(self) -> bool:
        return self.state["state"] in LIVE

    def old_answers(self) -> dict[str, Any]:
        """The answer check of a run from before evaluations were kept; {} for none."""
        found: Any = self.state.get("answers")
        rows = found.get("examples") if isinstance(found, dict) else None
        is_whole = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        is_whole = is_whole and isinstance(found.get("tuned"), int | float)
        return dict(found) if is_whole else {}

    @property
    def asked(self) -> int:
        """The number of rows that its scores are over."""
        return self.head.rows if self.head else int(self.old_answers().get("rows") or 0)

    def data_of(self, evaluation: Evaluation) -> str:
        """What the data of an evaluation is known by."""
        dataset = self.spec["dataset"]
        if evaluation.held_out or evaluation.dataset_id in ("", dataset.get("id")):
            return self.data
        try:
            stored = open_dataset(self.run.home, evaluation.dataset_id)
        except UserError:
            return evaluation.dataset_id
        return stored.hash or evaluation.dataset_id

    def data_is_gone(self) -> bool:
        """Whether its dataset is no longer in the home."""
        return not (self.run.home / "datasets" / str(self.spec["dataset"].get("id"))).is_dir()

    def base_is_gone(self) -> bool:
        """Whether its base model was a folder of this machine that is no longer there."""
        base = Path(str(self.settings["base_model"]))
        return base.is_absolute() and not base.is_dir()


def chosen_runs(home: Path, ids: Sequence[str]) -> list[Run]:
    """The runs to compare, in the order asked for.

    Raises UserError for fewer than 2, more than 6, an unknown one, and one named twice.
    """
    where = f"{len(ids)} runs" if len(ids) != 1 else "1 run"
    if len(ids) < MIN_RUNS:
        raise UserError("A comparison needs two runs.", where, "Choose 2 to 6 runs.")
    if len(ids) > MAX_RUNS:
        raise UserError(
            "These are too many runs to compare.", where, f"Choose at most {MAX_RUNS} runs."
        )
    runs = [open_run(home, one) for one in ids]
    for place, run in enumerate(runs):
        if run.id in (one.id for one in runs[:place]):
            raise UserError(
                "One run was named twice.", f"Run “{run.name()}”", "Choose each run once."
            )
    return runs


def read_compared(runs: Sequence[Run]) -> list[Compared]:
    """The runs with what the comparison reads of them, without scores."""
    names = [run.name() for run in runs]
    labels = [
        f"{name} ({run.id[-6:]})" if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]
    return [
        Compared(run, label, run.spec(), run.state(), {**Recipe().to_dict(), **run.settings()})
        for run, label in zip(runs, labels, strict=True)
    ]


def listed(labels: Sequence[str]) -> str:
    """Names in a sentence: “A”, “B” and “C”."""
    quoted = [f"“{one}”" for one in labels]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}" if len(quoted) > 1 else "".join(quoted)
