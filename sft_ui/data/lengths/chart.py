"""The histogram of token lengths as a component: template, script, and what it asks the server.

Counting goes on in length_feed.py; drawing and the line of the limit are in static/.
"""

import gradio as gr

from sft_ui.data.lengths.feed import LengthFeed
from sft_ui.theme import static_text


def build_length_chart(feed: LengthFeed) -> gr.HTML:
    """The component; its value is what `length_feed.asked` returns ("" for nothing to show).

    Its `takeover` event carries the limit the user chose to train with.
    """

    def watch_lengths(asked: dict) -> dict:
        """Answer one poll: how far counting is, or the whole report."""
        return feed.watch(asked if isinstance(asked, dict) else {})

    return gr.HTML(
        "",
        html_template=static_text("data/lengths/length_chart.html"),
        js_on_load=static_text("data/lengths/length_chart.js"),
        server_functions=[watch_lengths],
        elem_id="data-lengths",
        apply_default_css=False,
    )
