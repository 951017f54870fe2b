"""What is sent in the Chat tab: messages, held-out rows, the same again; and what is stopped.

The answers are made elsewhere; here are the events.
"""

from collections.abc import Iterator
from textwrap import shorten
from typing import Any

import gradio as gr
from markupsafe import Markup
from PIL import Image

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.chat.controls import BUSY, Asks, Controls, ready
from sft_ui.chat.conversation import (
    MODEL_PREFIX,
    Message,
    Question,
    Talk,
    before_turn,
    calls_open,
    marked_stopped,
    new_conversation,
    retried,
    stream_talk,
    waiting_for,
)
from sft_ui.chat.held_out import HeldOut, held_out_turn, scores_in_words
from sft_ui.chat.kept_talks import talk_of, with_talk
from sft_ui.chat.panes import call_cards, panes
from sft_ui.context import PRIVATE, QUICK, SILENT, Options, Studio
from trainer_backend.errors import UserError
from trainer_backend.runs import open_run
from trainer_backend.runs.asking import read_tools

SAME = "At temperature 0 the same question gets the same answer. Raise Temperature for another one."
