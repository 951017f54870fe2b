"""The live view's component: its script gets the live states from Python."""

import json
import re

import gradio as gr

from sft_ui.train.live_chart import build_live_chart
from trainer_backend.runs.state import LIVE


def test_the_script_takes_the_live_states_from_the_backend(studio):
    with gr.Blocks():
        script = build_live_chart(studio).js_on_load
    (given,) = re.findall(r"\bLIVE = (.*?);", script)
    assert json.loads(given) == list(LIVE)
    assert script.index("const LIVE") < script.index("LIVE.includes")
