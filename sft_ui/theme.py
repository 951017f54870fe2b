"""The look of the page (colours, fonts, style sheets) and access to its static files."""

from pathlib import Path

import gradio as gr

PAGE = Path(__file__).parent
STYLE_SHEETS = [
    PAGE / name
    for name in (
        "style.css",
        "chat/chat.css",
        "corrections/corrections.css",
        "model/model.css",
        "train/live_chart.css",
        "evaluation/result.css",
        "evaluation/rows/rows.css",
        "data/data_room.css",
        "data/chats_and_columns.css",
        "data/lengths/length_chart.css",
        "model/search.css",
        "model/form_view.css",
        "runs/runs.css",
        "runs/compare/compare.css",
        "blind/blind.css",
    )
]


def static_text(*names: str) -> str:
    """The named files of this package, joined: templates and scripts of components."""
    return "\n".join((PAGE / name).read_text(encoding="utf-8") for name in names)


# Some fonts bundled with Gradio lack Latin letters in their semi-bold files; these two do not.
SANS = gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700))
MONO = gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700))


def build_theme() -> gr.themes.Base:
    """The theme, for light and dark."""
    base = gr.themes.Base(
        primary_hue="indigo",
        secondary_hue="violet",
        neutral_hue="slate",
        radius_size="md",
        font=[SANS, "sans-serif"],
        font_mono=[MONO, "monospace"],
    )
    return base.set(**_surfaces(), **_buttons(), **_texts())


def _surfaces() -> dict[str, str]:
    return {
        "body_background_fill": "*neutral_50",
        "body_background_fill_dark": "*neutral_950",
        "block_shadow": "0 1px 2px rgb(15 23 42 / .05)",
        "block_border_width": "1px",
        "block_radius": "12px",
        "block_label_text_size": "*text_sm",
        "input_border_width": "1px",
        "input_border_color": "*neutral_300",
        "input_border_color_dark": "*neutral_700",
        "input_background_fill": "white",
        "input_background_fill_dark": "*neutral_900",
    }


def _buttons() -> dict[str, str]:
    return {
        "button_large_radius": "10px",
        "button_primary_background_fill": "*primary_600",
        "button_primary_background_fill_hover": "*primary_700",
        "button_primary_background_fill_dark": "*primary_600",
        "button_primary_text_color": "white",
        "button_cancel_background_fill": "*button_secondary_background_fill",
        "button_cancel_background_fill_hover": "#fee2e2",
        "button_cancel_background_fill_hover_dark": "#450a0a",
        "button_cancel_text_color": "#b91c1c",
        "button_cancel_text_color_dark": "#fecaca",
    }


def _texts() -> dict[str, str]:
    return {
        "body_text_color_subdued": "*neutral_600",
        "body_text_color_subdued_dark": "*neutral_400",
        "block_info_text_color": "*neutral_600",
        "block_info_text_color_dark": "*neutral_400",
    }
