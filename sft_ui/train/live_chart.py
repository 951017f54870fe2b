"""The live view of a run as a component: template, script, and the endpoint it polls.

The browser draws; run folders are read elsewhere.
"""

import asyncio
import json

import gradio as gr
from starlette.responses import JSONResponse

from sft_ui.context import Studio
from sft_ui.run_words import STATE_WORDS
from sft_ui.theme import static_text
from sft_ui.train.run_feed import RunFeeds
from trainer_backend.errors import UserError
from trainer_backend.runs import LIVE


def build_live_chart(studio: Studio) -> gr.HTML:
    """The component; its value is the id of the run to show ("" for none).

    Its `statuschange` event fires when that run changes state.
    """
    feeds = RunFeeds(studio.home)

    async def watch_run(asked: dict) -> JSONResponse:
        """Answer one poll. Async, so that it does not wait for a free worker thread.

        A long run is first read in a thread, so that other polls are not blocked. The answer is
        serialised here: Gradio would take 50 ms for a whole curve.
        """
        if isinstance(asked, dict) and feeds.is_slow(asked.get("run", "")):
            return JSONResponse(await asyncio.to_thread(answer_poll, feeds, studio, asked))
        return JSONResponse(answer_poll(feeds, studio, asked))

    return gr.HTML(
        "",
        html_template=static_text("train/live_chart.html"),
        js_on_load=_script(),
        server_functions=[watch_run],
        elem_id="live-chart",
        apply_default_css=False,
    )


def _script() -> str:
    """The component's script, preceded by the list of live states and the words for all states."""
    names = ("end_notice", "run_progress", "run_log", "live_chart")
    parts = ["save_file", "rows/pieces", "samples/timeline"]
    files = ["charts/line_chart.js", *(f"evaluation/{part}.js" for part in parts)]
    files += [f"train/{name}.js" for name in names]
    given = f"const LIVE = {json.dumps(LIVE)};\nconst WORDS = {json.dumps(STATE_WORDS)};\n"
    return given + static_text(*files)


def answer_poll(feeds: RunFeeds, studio: Studio, asked: object) -> dict:
    """What is new for this viewer; {"gone": True} when the run no longer exists."""
    asked = asked if isinstance(asked, dict) else {}
    try:
        return feeds.of(asked.get("run", "")).since(asked, studio.scheduler.queue_position)
    except (UserError, FileNotFoundError):
        return {"gone": True}
