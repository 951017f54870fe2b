"""The parts of the page that its tabs share, by name. No event is wired here."""

from dataclasses import dataclass

import gradio as gr

from sft_ui.chat.tab import ChatTab
from sft_ui.context import Options
from sft_ui.data.tab import DataTab
from sft_ui.model.tab import ModelTab
from sft_ui.runs.tab import RunsTab
from sft_ui.train.tab import TrainTab


@dataclass(frozen=True)
class Page:
    """The five tabs and the components of the page as a whole."""

    tabs: gr.Tabs
    data: DataTab
    model: ModelTab
    train: TrainTab
    chat: ChatTab
    runs: RunsTab
    draft: gr.BrowserState
    opened: dict[str, gr.Tab]
    steps: gr.HTML
    address: gr.HTML
    to_train: gr.Button
    to_chat: gr.Button

    def chosen(self) -> Options:
        """The inputs that a run is made of: data, preset and form."""
        data, model = self.data, self.model
        return {"dataset_id": data.dataset_id, "preset": model.preset, **model.fields}
