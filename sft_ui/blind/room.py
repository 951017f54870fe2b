"""The blind test as a component: a dialog over the page, opened for a run from anywhere.

The browser draws what the endpoints answer. A script of the page opens it with the event
`studio-blind` ({run}); the address names the open test, so a reload goes on with it.
"""

from typing import Any

import gradio as gr

from sft_ui.blind.endpoints import Endpoints
from sft_ui.blind.under_way import UnderWay
from sft_ui.context import Studio
from sft_ui.theme import static_text
from trainer_backend.comparison.blind import LEFT, RIGHT, open_test
from trainer_backend.comparison.blind.answering import asked_messages
from trainer_backend.errors import UserError
from trainer_backend.runs import open_run

SCRIPTS = ("pieces", "question", "result", "judge", "room")


def build_blind(studio: Studio) -> gr.HTML:
    """The component, once a page, outside the tabs.

    Its event `correct` carries an answer that a person has corrected, by ids: {"run", "test", "at",
    "place", "answer"}; `corrected_answer` turns it into what is to be kept.
    """
    return gr.HTML(
        "",
        html_template=static_text("blind/room.html"),
        js_on_load=static_text(*(f"blind/{part}.js" for part in SCRIPTS)),
        server_functions=Endpoints(studio, UnderWay(studio.model_process)).all(),
        elem_id="blind-room",
        apply_default_css=False,
    )


def corrected_answer(studio: Studio, event: Any) -> dict[str, Any]:
    """What the event `correct` is about, looked up by its ids.

    Returns {"run", "checkpoint", "row", "messages", "tools", "said", "answer"}: the messages as
    that model was asked, `said` its answer (an Answer), `answer` the person's text. Raises
    UserError for what is not there.
    """
    run = open_run(studio.home, str(event.run))
    test = open_test(run, str(event.test))
    at, place = event.at, str(event.place)
    there = isinstance(at, int) and 0 <= at < len(test.questions) and place in (LEFT, RIGHT)
    if not there or not test.questions[at].is_answered:
        raise UserError("There is no such answer.", run.name(), "Reload the page.")
    question = test.questions[at]
    side = test.side(question.side_of(place))
    images = studio.home / "datasets" / test.dataset_id if test.dataset_id else None
    return {
        "run": side.run,
        "checkpoint": side.checkpoint,
        "row": question.row,
        "messages": asked_messages(question, side, images),
        "tools": question.tools or (side.tools if question.row is None else []),
        "said": question.shown(place),
        "answer": str(event.answer),
    }
