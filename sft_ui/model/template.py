"""The chat template in sight: where it comes from, the first row rendered by it, and an editor.

The model process renders and checks; the recipe's field holds what was chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.context import PRIVATE, QUICK, Options, Studio
from sft_ui.recipe_form import Fields, field_update
from sft_ui.token_card import token_card
from trainer_backend.errors import UserError
from trainer_backend.recipe import SETTINGS, is_template_text, label

IN_USE = "in use"
# The settings that change what a template writes.
DECIDING = ("base_model", "chat_template", "thinking", "system_prompt", "eos_token")


@dataclass(frozen=True)
class TemplateView:
    """The parts of the fold; `is_open` says whether a person looks at it."""

    fold: gr.Accordion
    is_open: gr.State
    shown: gr.HTML
    start: gr.Dropdown
    editor: gr.Code
    check: gr.Button
    use: gr.Button
    own: gr.Button


def build_template_view() -> TemplateView:
    """Build the fold; its events need data and form, so the page wires them."""
    is_open = gr.State(False)
    with gr.Accordion("Chat template in full", open=False, elem_id="template-view") as fold:
        gr.HTML(
            markup.line(
                "The chat template turns messages into the text that the model reads. It decides "
                "which tokens stand around a prompt and an answer, and is saved with every "
                "checkpoint and export.",
                "quiet",
            )
        )
        shown = gr.HTML(elem_id="template-shown")
        start = gr.Dropdown(
            start_choices(),
            value=IN_USE,
            label="Template in the editor",
            info="Start from the one in use or from a built-in one, and change it below.",
            elem_id="template-start",
        )
        editor = gr.Code(
            language="jinja2",
            label="Template (Jinja)",
            lines=6,
            max_lines=14,
            interactive=True,
            wrap_lines=True,
            elem_id="template-editor",
        )
        with gr.Row():
            use = gr.Button("Use this template", elem_id="template-use")
            check = gr.Button("Check it on my rows", elem_id="template-check")
            own = gr.Button("Back to the model's own", elem_id="template-own")
    return TemplateView(fold, is_open, shown, start, editor, check, use, own)


def start_choices() -> list[tuple[str, str]]:
    """What the editor can start from: the template in use, and every choice of the setting."""
    named = SETTINGS["chat_template"].choices.items()
    return [("The one in use", IN_USE), *((words, choice) for choice, words in named)]


def wire_template_view(
    studio: Studio, view: TemplateView, fields: Fields, chosen: Options
) -> list[Dependency]:
    """Wire the fold; returns the events that change the recipe. `chosen` has data and form."""
    seen = [view.shown, view.editor]

    @show_user_errors
    def show(dataset_id: str, preset: str, **values: Any) -> list[Any]:
        return _shown(studio, dataset_id, values)

    @show_user_errors
    def show_if_open(is_open: bool, dataset_id: str, preset: str, **values: Any) -> list[Any]:
        return _shown(studio, dataset_id, values) if is_open else [gr.skip(), gr.skip()]

    @show_user_errors
    def begin(start: str, dataset_id: str, preset: str, **values: Any) -> list[Any]:
        choice = values.get("chat_template") if start == IN_USE else start
        return _shown(studio, dataset_id, {**values, "chat_template": choice})

    @show_user_errors
    def check(text: str, dataset_id: str, preset: str, **values: Any) -> Markup:
        return _checked(studio, dataset_id, values, text)[1]

    @show_user_errors
    def use(text: str, dataset_id: str, preset: str, **values: Any) -> list[Any]:
        found, card = _checked(studio, dataset_id, values, text)
        refuse_unfit(found)
        gr.Info("The template in the editor is used from now on.")
        return [field_update("chat_template", found["choice"]), card]

    def back() -> list[Any]:
        return [field_update("chat_template", "model"), gr.update(value=IN_USE)]

    with_open = {"is_open": view.is_open, **chosen}
    view.fold.expand(lambda: True, None, view.is_open, **QUICK)
    view.fold.collapse(lambda: False, None, view.is_open, **QUICK)
    view.fold.expand(show, inputs_kwargs=chosen, outputs=seen, **PRIVATE)
    gr.on(
        [fields[name].change for name in DECIDING],
        show_if_open,
        inputs_kwargs=with_open,
        outputs=seen,
        trigger_mode="always_last",
        **PRIVATE,
    )
    view.start.input(begin, inputs_kwargs={"start": view.start, **chosen}, outputs=seen, **PRIVATE)
    edited = {"text": view.editor, **chosen}
    view.check.click(check, inputs_kwargs=edited, outputs=view.shown, **PRIVATE)
    template = fields["chat_template"]
    return [
        view.use.click(use, inputs_kwargs=edited, outputs=[template, view.shown], **PRIVATE),
        view.own.click(back, None, [template, view.start], **QUICK),
    ]


def _shown(studio: Studio, dataset_id: str, values: Mapping[str, Any]) -> list[Any]:
    """Updates of the card and of the editor for these settings."""
    found = studio.model_process.template_view(dataset_id, dict(values))
    return [template_card(found, _model(values)), found["template"]]


def _checked(
    studio: Studio, dataset_id: str, values: Mapping[str, Any], text: str
) -> tuple[dict[str, Any], Markup]:
    """What a text from the editor does, and its card. Raises UserError for no template."""
    if not is_template_text(text):
        raise UserError(
            "This is not a chat template.",
            label("chat_template"),
            "Write a Jinja template, which loops over messages, or start from a built-in one.",
        )
    given = {**values, "chat_template": text}
    found = studio.model_process.template_view(dataset_id, given)
    return found, template_card(found, _model(values))


def refuse_unfit(found: Mapping[str, Any]) -> None:
    """Raise UserError for a template that refuses every row, or leaves nothing to learn in any."""
    rows = found.get("rows")
    if not rows:
        return
    if rows["num_refused"] == rows["checked"]:
        row, why = rows["refused"][0]
        fix = "Change the template, or the rows."
        raise UserError("The template refuses every row.", f"Row {row:,}: {why}", fix)
    if rows["not_learned"] == rows["checked"] - rows["num_refused"]:
        raise UserError(
            "With this template the model would learn nothing: no answer is found in its text.",
            f"{rows['checked']:,} rows checked",
            "Write the content of assistant messages, unchanged, into the template's text.",
        )


def _model(values: Mapping[str, Any]) -> str:
    return str(values.get("base_model") or "").rstrip("/").rpartition("/")[2]


def template_card(found: Mapping[str, Any], model: str) -> Markup:
    """Where the template comes from, what it does with the rows, and the first row by it."""
    pieces = [markup.line(f"{found['origin']}.")]
    if found.get("plain"):
        pieces.append(
            markup.line("Your data is plain text: it is trained as it is, without a template.")
        )
    rows = found.get("rows")
    if rows:
        pieces.append(markup.line(_checked_words(rows), "quiet"))
    first = found.get("first") or {}
    cards: list[Markup | str] = [markup.card("Where it comes from", *pieces)]
    if said := warnings(found):
        cards.append(markup.card("", *map(markup.line, said), kind="problem warning"))
    if "view" in first:
        cards.append(token_card(first["view"], first["row"], model))
    elif "error" in first:
        cards.append(markup.error_card(UserError(**first["error"])))
    return markup.stack(cards)


def _checked_words(rows: Mapping[str, Any]) -> str:
    fine = rows["checked"] - rows["num_refused"] - rows["not_learned"]
    of = f" of {rows['of']:,}" if rows["of"] > rows["checked"] else ""
    noun = "row" if rows["checked"] == 1 else "rows"
    return f"Tried on {rows['checked']:,}{of} {noun}: {fine:,} can be learned."


def warnings(found: Mapping[str, Any]) -> list[str]:
    """What is wrong with a template on these rows, as sentences."""
    said = []
    if found["unknown"]:
        marks = ", ".join(found["unknown"][:6])
        said.append(
            f"This model has no token for {marks}: such marks are read as ordinary text, which "
            "the model has to learn first. Prefer the template that belongs to the model."
        )
    rows = found.get("rows")
    if not rows:
        return said
    if rows["num_refused"]:
        named = "; ".join(f"row {row:,}: {why}" for row, why in rows["refused"][:3])
        verb = "is" if rows["num_refused"] == 1 else "are"
        said.append(f"{rows['num_refused']:,} of these rows {verb} refused ({named}).")
    if rows["not_learned"]:
        said.append(f"{rows['not_learned']:,} of these rows have no token to learn.")
    if rows["endless"]:
        said.append(
            f"In {rows['endless']:,} of these rows no token ends the answer, so the model does "
            f"not learn to stop. Write eos_token after an answer, or name the token in "
            f"“{label('eos_token')}”."
        )
    return said
