"""The result of a run as a component: the newest evaluation, its rows, and a new evaluation.

The browser draws what the endpoints here answer; the models are asked in another process.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from sft_ui.context import Studio
from sft_ui.evaluation.earlier import answers_of
from sft_ui.evaluation.head import head_of, label_of
from sft_ui.evaluation.options import choices_of, read_options
from sft_ui.evaluation.rows.table import detail_of, page_of, view_of
from sft_ui.evaluation.under_way import UnderWay
from sft_ui.theme import static_text
from trainer_backend.errors import UserError
from trainer_backend.evaluation.results import Evaluation, evaluations_of
from trainer_backend.evaluation.shown import answers_csv
from trainer_backend.runs import Run, open_run
from trainer_backend.runs.files import EVALUATIONS

Answer = dict[str, Any]
Endpoint = Callable[[dict], Answer]
SCRIPTS = (
    *("save_file", "rows/pieces", "result_head", "asking"),
    *("rows/row_detail", "rows/result_table", "result"),
)


def build_result(studio: Studio) -> gr.HTML:
    """The component; it shows the run that the live view shows.

    Its event `correct` carries an answer that a person wants to correct: {"run", "evaluation",
    "messages", "tools", "answer", "reasoning", "checkpoint", "place"} and, for a row of the run's
    own data, "row". `evaluated` tells that a new result is kept: {"run", "evaluation"}.
    """
    return gr.HTML(
        "",
        html_template=static_text("evaluation/result.html"),
        js_on_load=static_text(*(f"evaluation/{part}.js" for part in SCRIPTS)),
        server_functions=[*_looking(studio), *_evaluating(studio)],
        elem_id="evaluation",
        apply_default_css=False,
    )


def _looking(studio: Studio) -> list[Endpoint]:
    @answered
    def result_of_run(asked: dict) -> Answer:
        """The evaluations of a run, the one to show, and what a new one could be made with."""
        run = open_run(studio.home, str(asked.get("run")))
        found = results_of(run)
        shown = next((one for one in found if one.id == asked.get("evaluation")), None)
        shown = shown or next(iter(found), None)
        return {
            "evaluations": [{"id": one.id, "label": label_of(one)} for one in found],
            "shown": head_of(shown) if shown else None,
            "choices": choices_of(studio, run),
        }

    @answered
    def rows_of_result(asked: dict) -> Answer:
        """One page of the table."""
        evaluation = chosen(studio, asked)
        return page_of(evaluation, view_of(evaluation, asked))

    @answered
    def row_of_result(asked: dict) -> Answer:
        """A row in full."""
        evaluation, at = chosen(studio, asked), asked.get("at")
        if not isinstance(at, int) or not 0 <= at < len(evaluation.examples):
            raise UserError("There is no such row.", str(at), "Reload the page.")
        return detail_of(evaluation, at)

    @answered
    def csv_of_result(asked: dict) -> Answer:
        """The table as CSV."""
        evaluation = chosen(studio, asked)
        name = f"{evaluation.run}-{evaluation.id}-step-{evaluation.checkpoint}.csv"
        return {"name": name, "text": answers_csv(evaluation)}

    return [result_of_run, rows_of_result, row_of_result, csv_of_result]


def _evaluating(studio: Studio) -> list[Endpoint]:
    under_way = UnderWay(studio)

    @answered
    def evaluate_run(asked: dict) -> Answer:
        """Start an evaluation."""
        run = open_run(studio.home, str(asked.get("run")))
        return {"under_way": under_way.start(run.id, read_options(run, asked))}

    @answered
    def stop_evaluation(asked: dict) -> Answer:
        """Stop the one that is under way."""
        return {"under_way": under_way.stop(open_run(studio.home, str(asked.get("run"))).id)}

    @answered
    def evaluation_under_way(asked: dict) -> Answer:
        """How far the one of a run is."""
        return {"under_way": under_way.of(open_run(studio.home, str(asked.get("run"))).id)}

    return [evaluate_run, stop_evaluation, evaluation_under_way]


def answered(endpoint: Endpoint) -> Endpoint:
    """An endpoint that answers a user's mistake as {"error": {"what", "where", "fix"}}."""

    def safe(asked: dict) -> Answer:
        try:
            return endpoint(asked if isinstance(asked, dict) else {})
        except UserError as error:
            return {"error": error.to_dict()}

    safe.__name__ = endpoint.__name__  # the browser calls it by this name
    return safe


def chosen(studio: Studio, asked: Mapping[str, Any]) -> Evaluation:
    """The evaluation {"run", "evaluation"}. Raises UserError when it is gone."""
    run = open_run(studio.home, str(asked.get("run")))
    for one in results_of(run):
        if one.id == asked.get("evaluation"):
            return one
    raise UserError("This evaluation is gone.", run.name(), "Reload the page.")


def results_of(run: Run) -> list[Evaluation]:
    """The evaluations of a run: on its held-out rows, then on other data, each newest first.

    A run without any that was checked by an earlier version has that check.
    """
    files = (run.dir / EVALUATIONS).glob("*.json")
    stamp = tuple(sorted((file.name, file.stat().st_mtime_ns) for file in files))
    found = _read(run.dir, stamp) if stamp else ()
    if not found:
        earlier = answers_of(run)
        return [earlier] if earlier else []
    return sorted(found, key=lambda one: not one.held_out)


@lru_cache(maxsize=16)
def _read(folder: Path, stamp: tuple) -> tuple[Evaluation, ...]:  # `stamp` is the cache key
    return tuple(evaluations_of(Run(folder)))
