"""Steps of a user on the page, and hand-made runs."""

import json
import shutil
from pathlib import Path

from run_files import append, set_state

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.evaluation.results import Asked, Evaluation, Metric, keep
from trainer_backend.home import open_home
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run
from trainer_backend.runs.run import Run

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>${alert(3)}{{value}}![x](http://e/x)"
)


def go(page, tab: str) -> None:
    """Open a tab as a user does."""
    page.get_by_role("tab", name=tab, exact=True).click()


def wait_for_state(page, *states: str, seconds: float = 240) -> str:
    """Wait until the live view shows one of these states."""
    wanted = ", ".join(f'#live-chart[data-status="{state}"]' for state in states)
    page.wait_for_selector(wanted, state="attached", timeout=seconds * 1000)
    return page.get_attribute("#live-chart", "data-status")


def upload(page, path: Path) -> None:
    """Upload a data file and wait for its report."""
    page.set_input_files("#data-upload input[type=file]", path)
    page.wait_for_selector(f"#data-report :text('{path.name}')")


def write_pairs(path: Path, pairs: list[tuple[str, str]]) -> Path:
    """A JSONL file of prompts and responses."""
    rows = [json.dumps({"prompt": prompt, "response": answer}) for prompt, answer in pairs]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def fill_field(page, name: str, value: str) -> None:
    """Write into a field of the recipe form."""
    page.locator(f"#field-{name} input, #field-{name} textarea").first.fill(value)


def add_finished_run(home: Path, workplace: Path) -> Run:
    """A finished run, built elsewhere and moved in, so that the scheduler does not start it."""
    elsewhere = open_home(workplace / "elsewhere")
    rows = [{"prompt": f"{HOSTILE} {n}", "response": HOSTILE} for n in range(20)]
    dataset = create_from_rows(elsewhere, rows, name=HOSTILE)
    run = create_run(elsewhere, Recipe(max_steps=40), dataset, name=HOSTILE)
    for step in range(1, 41):
        append(run, metrics(step))
    append(run, {"type": "eval", "step": 20, "eval_loss": 1.2})
    add_evaluation(run)
    set_state(
        run,
        **{"state": "finished", "step": 40, "total_steps": 40, "loss": 0.5, "eval_loss": 1.2},
        warnings=[HOSTILE],
        paths=[HOSTILE],
        elapsed_seconds=61.0,
    )
    (run.dir / "worker.log").write_text(f"{HOSTILE}\nthe last line\n", encoding="utf-8")
    target = home / "datasets" / dataset.id
    if not target.exists():
        shutil.move(dataset.dir, target)
    shutil.move(run.dir, home / "runs" / run.id)
    return Run(home / "runs" / run.id)


def add_evaluation(run: Run) -> None:
    """An evaluation of three rows, and samples of the training; their texts contain markup."""
    asked = [
        Asked(
            *(row, f"{HOSTILE} {row}", HOSTILE, "no", HOSTILE if row else f"{HOSTILE} more"),
            {"exact_match": {"base": 0.0, "tuned": float(row > 0)}},
            [{"role": "system", "content": HOSTILE}, {"role": "user", "content": f"Row {row}"}],
        )
        for row in range(3)
    ]
    measured = {"exact_match": Metric(0.0, 2 / 3, "higher", (0.25, 1.0), 3)}
    facts = {"warnings": [HOSTILE], "notes": [HOSTILE], "examples": asked, "dataset": HOSTILE}
    keep(run, Evaluation(run.id, 40, 3, measured, "better", "exact_match", HOSTILE, **facts))
    with open(run.dir / "samples.jsonl", "w", encoding="utf-8") as file:
        for step, text in ((0, "no"), (20, HOSTILE)):
            sample = {"step": step, "row": 1, "prompt": HOSTILE, "expected": HOSTILE, "text": text}
            file.write(json.dumps({**sample, "cut": False, "seconds": 0.1}) + "\n")


def metrics(step: int) -> dict:
    """One point of the curves."""
    curve = {"loss": 4 / step, "learning_rate": 1e-3, "grad_norm": 1.0, "tokens_per_second": 100.0}
    return {"type": "metrics", "step": step, **curve}
