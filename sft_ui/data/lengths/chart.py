"""The histogram of token lengths as a component: template, script, and the endpoint it polls.

The browser draws; counting happens elsewhere.
"""

from typing import Any

import gradio as gr

from sft_ui.data.lengths.feed import LengthFeed
from sft_ui.theme import static_text


def build_length_chart(feed: LengthFeed) -> gr.HTML:
    """The component; its value is what `asked` returns ("" shows nothing).

    Its `takeover` event carries the chosen limit: {"max_length": tokens}; its `decide` event a
    setting that decides about lost content: {"change": {setting: value}}.
    """

    def watch_lengths(asked: dict) -> dict[str, Any]:
        """Answer one poll: the progress of counting, or the report."""
        return feed.watch(asked if isinstance(asked, dict) else {})

    return gr.HTML(
        "",
        html_template=static_text("data/lengths/length_chart.html"),
        js_on_load=static_text("data/lengths/length_chart.js"),
        server_functions=[watch_lengths],
        elem_id="data-lengths",
        apply_default_css=False,
    )
