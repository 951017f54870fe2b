"""The blind test as a component: a dialog over the page, opened for a run from anywhere.

The browser draws what the endpoints answer. A script of the page opens it with the event
`studio-blind` ({run}); the address names the open test, so a reload goes on with it.
"""

import gradio as gr

from sft_ui.blind.endpoints import Endpoints
from sft_ui.blind.under_way import UnderWay
from sft_ui.context import Studio
from sft_ui.theme import static_text

SCRIPTS = ("pieces", "question", "result", "judge", "room")


def build_blind(studio: Studio) -> gr.HTML:
    """The component, once a page, outside the tabs.

    Its event `correct` ({"run"}) tells that a corrected answer was kept.
    """
    return gr.HTML(
        "",
        html_template=static_text("blind/room.html"),
        js_on_load=static_text(*(f"blind/{part}.js" for part in SCRIPTS)),
        server_functions=Endpoints(studio, UnderWay(studio.model_process)).all(),
        elem_id="blind-room",
        apply_default_css=False,
    )
