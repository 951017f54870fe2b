"""The comparison as a component: its template, its script, and what the page asks for."""

import asyncio
import json
from typing import Any

import gradio as gr
from starlette.responses import JSONResponse

from sft_ui.context import Studio
from sft_ui.runs.compare.page_data import page_data, stamp_of, whole_row
from sft_ui.theme import static_text
from trainer_backend.comparison.as_csv import as_csv
from trainer_backend.comparison.compare import compare_runs
from trainer_backend.comparison.compared import MAX_RUNS
from trainer_backend.errors import UserError

SCRIPTS = ("compare_chart", "compare_tables", "compare_answers", "compare")


def build_comparison(studio: Studio) -> gr.HTML:
    """The component; the page's events and its address say which runs it shows."""

    async def compared(asked: dict) -> JSONResponse:
        """What is new in a comparison; read in a thread, as runs may be long."""
        return JSONResponse(await asyncio.to_thread(answer, studio, asked))

    return gr.HTML(
        "",
        html_template=static_text("runs/compare/compare.html"),
        js_on_load=_script(),
        server_functions=[compared],
        elem_id="run-compare",
        apply_default_css=False,
    )


def _script() -> str:
    parts = ["charts/line_chart.js", "evaluation/save_file.js"]
    parts += [f"runs/compare/{name}.js" for name in SCRIPTS]
    return f"const MOST = {json.dumps(MAX_RUNS)};\n" + static_text(*parts)


def answer(studio: Studio, asked: object) -> dict[str, Any]:
    """The answer to one question of the page: {"error"} for a user's mistake.

    `what` is “csv”, “row” (with `at`), or else the comparison, {"same": True} for a known stamp.
    """
    asked = asked if isinstance(asked, dict) else {}
    given = asked.get("runs")
    ids = [str(one) for one in given] if isinstance(given, list) else []
    try:
        if asked.get("what") == "csv":
            return {"csv": as_csv(compare_runs(studio.home, ids))}
        if asked.get("what") == "row":
            at = asked.get("at")
            return whole_row(studio.home, ids, at if isinstance(at, int) else -1)
        if asked.get("stamp") and asked["stamp"] == stamp_of(studio.home, ids):
            return {"same": True}
        return page_data(studio.home, ids)
    except UserError as error:
        return {"error": error.to_dict()}
    except FileNotFoundError:  # a run was deleted meanwhile
        return {"error": UserError("A run is gone.", "Comparison", "Choose other runs.").to_dict()}
