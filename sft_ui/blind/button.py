"""The button that opens the blind test of a run."""

import gradio as gr

from sft_ui.context import PRIVATE

OPEN_BLIND = """(run) => {
  const known = new URL(location.href).searchParams.get('run');
  const chosen = document.querySelector('#runs-table tr.chosen')?.dataset.pick;
  const detail = { run: FROM_TABLE ? chosen : known };
  if (detail.run) document.dispatchEvent(new CustomEvent('studio-blind', { detail }));
  return [];
}"""


def build_blind_button(place: str) -> gr.Button:
    """The button that opens the blind test: of the run chosen in Runs, or shown in Train."""
    button = gr.Button("Blind test", size="md", min_width=110, elem_id=f"{place}-blind")
    script = OPEN_BLIND.replace("FROM_TABLE", "true" if place == "runs" else "false")
    button.click(None, None, None, js=script, **PRIVATE)
    return button
