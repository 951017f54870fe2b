"""The page: header, tabs, page load, and every event that crosses tabs.

Events within one tab belong to that tab; no tab imports another.
"""

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import BlocksConfigDict
from markupsafe import Markup

from sft_ui import access
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.chat.tab import ChatTab, build_chat_tab, chat_choices, warm_up
from sft_ui.context import PRIVATE, QUICK, SETS_STATE, SILENT, Options, Studio
from sft_ui.data.dataset_files import build_routes
from sft_ui.data.events import wire_events
from sft_ui.data.lengths import feed
from sft_ui.data.tab import DataTab, build_data_tab
from sft_ui.data.wiring import settings_outputs, show_settings, wire_data
from sft_ui.model.basis import read_basis
from sft_ui.model.cards.estimating import estimate_now
from sft_ui.model.cards.settings_cards import settings_cards
from sft_ui.model.form_events import FormEvents, wire_form
from sft_ui.model.model_events import wire_restored
from sft_ui.model.recipe_files.travel import download_value, taken_from_run
from sft_ui.model.tab import ModelTab, about_preset, build_model_tab
from sft_ui.model.template import wire_template_view
from sft_ui.navigation.restoring import restored, run_to_show
from sft_ui.navigation.stepper import build_stepper, stepper, steps_done
from sft_ui.recipe_form import edits, field_update, read_form, relevance
from sft_ui.runs.tab import RunsTab, build_runs_tab, show_runs
from sft_ui.theme import STYLE_SHEETS, build_theme, static_text
from sft_ui.train.after_run import start_from
from sft_ui.train.decision import choices_of, shown_question, undecided
from sft_ui.train.next_run_card.next_run import Asked, new_key, start_run, start_state
from sft_ui.train.tab import TrainTab, build_train_tab
from sft_ui.web_api import build_web_api
from trainer_backend.hardware import Hardware, hardware
from trainer_backend.runs import open_run
from trainer_backend.scheduling import Scheduler
from trainer_backend.serving.client import ModelProcess

TITLE = "SFT Studio"
MAX_UPLOAD = "16gb"
MAX_PAGES = 300  # pages whose state is kept; 0.4 MB each, and they never expire
KEEP_UPLOADS_S = (3600, 86400)
SWITCH_THEME = """
element.querySelector('button')
  .addEventListener('click', () => document.body.classList.toggle('dark'));
"""
# The page's scripts hear of an opened tab, the shown run and the end of loading by these events.
TAB_OPENED = """() => {
  document.body.dataset.tab = 'NAME';
  document.dispatchEvent(new CustomEvent('studio-tab', { detail: 'NAME' }));
}"""
RUN_SHOWN = """(run) => {
  document.dispatchEvent(new CustomEvent('studio-run', { detail: { run: run || '' } }));
}"""
# The run and its tab as one entry of the history; a State has no value in the browser.
RUN_OPENED = """() => {
  const run = document.querySelector('#runs-table tr.chosen')?.dataset.pick;
  if (run)
    document.dispatchEvent(new CustomEvent('studio-run', { detail: { run, tab: 'train' } }));
  return [null];
}"""
LOADED = "() => { document.dispatchEvent(new CustomEvent('studio-ready')); }"
TO_THE_TOP = "() => { scrollTo(0, 0); return []; }"


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


class StudioPage(gr.Blocks):
    """The page without Gradio's heartbeat, a stream that each open page would hold for good.

    Browsers open six connections to a server; the seventh page would wait for ever. The heartbeat
    only tells that a page was closed, after which its state is kept for an hour more; here
    `MAX_PAGES` limits the states, and an event ends with the stream of its own answer.
    """

    def get_config_file(self) -> BlocksConfigDict:
        """Gradio's description of the page for the browser."""
        return {**super().get_config_file(), "connect_heartbeat": False}


def build_app(home: Path, scheduler: Scheduler, model_process: ModelProcess) -> gr.Blocks:
    """Build the page. The caller starts the scheduler and launches the server."""
    os.environ.setdefault("GRADIO_TEMP_DIR", str(home / "tmp" / "uploads"))
    studio = Studio(home, scheduler, model_process)
    with StudioPage(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=KEEP_UPLOADS_S
    ) as app:
        gr.HTML(header(hardware()), js_on_load=SWITCH_THEME)
        page = _build_tabs(studio)
        _wire_way(studio, page)
        _wire_settings(studio, page)
        _wire_runs(studio, page)
        _wire_load(studio, page, app)
        build_web_api(studio)
    return app.queue(default_concurrency_limit=8)


def launch_options(
    home: Path,
    *,
    host: str,
    port: int | None = None,
    auth: str | None = None,
    allow_open: bool = False,
) -> dict[str, Any]:
    """Arguments of `Blocks.launch`. Raises UserError when anyone could use the page."""
    login = access.read_login(auth)
    access.check_bind(host, login, allow_open=allow_open)
    return {
        "server_name": host,
        "server_port": port,
        "auth": login,
        "theme": build_theme(),
        "css_paths": STYLE_SHEETS,
        "app_kwargs": {"middleware": access.build_middleware(host), "routes": build_routes(home)},
        "allowed_paths": [str(home / "exports")],
        "footer_links": ["api"],
        "run_history": False,
        "ssr_mode": False,
        "share": False,
        "max_file_size": MAX_UPLOAD,
        "state_session_capacity": MAX_PAGES,
    }


def header(machine: Hardware) -> Markup:
    """Title, device and the switch between the light and dark themes."""
    template = Markup(
        '<header class="masthead"><div class="logo" aria-hidden="true">S</div>'
        "<div><h1>{}</h1><p>Fine-tune a language model on your examples</p></div>"
        '<div class="space"></div><span class="pill" title="{}">{}</span>'
        '<button type="button" aria-label="Switch between light and dark" title="Light or dark">'
        "◐</button></header>"
    )
    return template.format(TITLE, machine.problem, machine.label())


def _build_tabs(studio: Studio) -> Page:
    draft = gr.BrowserState(None, storage_key="sft-studio-draft", secret="sft-studio")
    opened: dict[str, gr.Tab] = {}
    address = gr.HTML("", js_on_load=static_text("navigation/address.js"), elem_id="address")
    steps = build_stepper()

    def tab(name: str) -> gr.Tab:
        opened[name] = gr.Tab(name.capitalize(), id=name)
        return opened[name]

    with gr.Tabs(selected="data") as tabs:
        with tab("data"):
            data = build_data_tab(studio)
        with tab("model"):
            model = build_model_tab(studio)
            to_train = gr.Button("Next: train →", variant="primary", elem_id="next-to-train")
        with tab("train"):
            train = build_train_tab(studio)
            to_chat = gr.Button("Next: chat →", interactive=False, elem_id="next-to-chat")
        with tab("chat"):
            chat = build_chat_tab(studio)
        with tab("runs"):
            runs = build_runs_tab(studio)
    parts = (tabs, data, model, train, chat, runs, draft, opened)
    return Page(*parts, steps, address, to_train, to_chat)


def _wire_way(studio: Studio, page: Page) -> None:
    """The steps above the tabs, the buttons that lead on, and the address of the page."""
    train, dataset_id, run_id = page.train, page.data.dataset_id, page.train.run_id
    for name, tab in page.opened.items():
        tab.select(None, None, None, js=TAB_OPENED.replace("NAME", name), **PRIVATE)

    def way(dataset_id: str, run_id: str) -> list[Any]:
        done = steps_done(studio, dataset_id, run_id)
        return [stepper(done), gr.update(interactive="train" in done)]

    def go(event: gr.EventData) -> gr.Tabs:
        return gr.Tabs(selected=str(event.tab))

    def went(event: gr.EventData) -> tuple[Any, str]:
        run, _ = attempt(open_run, studio.home, str(event.run)) if event.run else (None, None)
        return gr.Tabs(selected=str(event.tab)), run.id if run else ""

    shown = {"inputs": [dataset_id, run_id], "outputs": [page.steps, page.to_chat], **SILENT}
    for event in (dataset_id.change, run_id.change, train.chart.statuschange):
        event(way, **shown)
    page.steps.go(go, None, page.tabs, **SILENT)
    page.address.went(went, None, [page.tabs, run_id], **SETS_STATE)
    page.to_train.click(lambda: gr.Tabs(selected="train"), None, page.tabs, js=TO_THE_TOP, **SILENT)


def _wire_settings(studio: Studio, page: Page) -> None:
    """Recompute the estimate, the Start button and the draft when data or settings change."""
    data, model, train = page.data, page.model, page.train

    def refresh(dataset_id: str, preset: str, basis: dict, **values: Any) -> list[Any]:
        draft = {"dataset_id": dataset_id, "preset": preset, "basis": basis, "values": values}
        return [*_cards(studio, page, dataset_id, preset, basis, values), draft]

    refreshed = [*_card_outputs(page), page.draft]
    events = FormEvents(studio, model, data.feed.known)
    given = events.given(data.dataset_id)
    again = {"fn": refresh, "inputs_kwargs": given, "outputs": refreshed, **SILENT}
    again["trigger_mode"] = "always_last"
    gr.on(edits(model.fields.values()), **again)
    adapt = wire_form(events, data.dataset_id, again)
    for event in wire_template_view(studio, model.template, model.fields, page.chosen()):
        event.then(**again)
    train.chart.statuschange(**again)
    for name in ("model", "train"):
        page.opened[name].select(**adapt).then(**again)

    wire_events(studio, data)
    wire_data(studio, data, model.fields, page.opened["data"], (adapt, again))
    _wire_counts(studio, page, adapt, again)
    _wire_use_settings(studio, page, events, again)

    for button in data.ready.go_on:
        led_on = button.click(lambda: gr.Tabs(selected="model"), None, page.tabs, **QUICK)
        led_on.then(None, None, None, js="() => { scrollTo(0, 0); }", **PRIVATE)
    for at, button in enumerate(train.decision.buttons):
        names = ["chat_template", "lost_content"]
        decided = button.click(
            partial(_decide, page, at, names),
            inputs_kwargs=page.chosen(),
            outputs=[model.fields[name] for name in names],
            **QUICK,
        )
        decided.then(**again)


def _wire_counts(studio: Studio, page: Page, adapt: Options, again: Options) -> None:
    """When the tokens are counted, what follows from them is filled in and estimated anew."""
    data, model = page.data, page.model

    def count(dataset_id: str, preset: str, basis: dict, **values: Any) -> list[Any]:
        recipe, _ = read_form(values)
        if dataset_id and recipe:
            data.feed.watch(json.loads(feed.asked(dataset_id, recipe.to_dict())))
        followed: list[Any] = adapt["fn"](dataset_id, preset, basis, **values)
        return followed

    @show_user_errors
    def shown(dataset_id: str, **values: Any) -> list[Any]:
        return show_settings(studio, dataset_id, values)

    model.estimate.recheck(**{**adapt, "fn": count}).then(**again)
    counted = data.lengths.counted(**adapt)
    counted.then(
        shown,
        inputs_kwargs={"dataset_id": data.dataset_id, **model.fields},
        outputs=settings_outputs(data),
        **QUICK,
    ).then(**again)


def _wire_use_settings(studio: Studio, page: Page, events: FormEvents, again: Options) -> None:
    """Put the settings, and the data, of the shown run into the form."""
    train, model, data = page.train, page.model, page.data

    @show_user_errors
    def use(run_id: str, basis: dict, **values: Any) -> list[Any]:
        taken = taken_from_run(studio, run_id)
        filled = events.take(taken, basis, values)
        return [gr.Tabs(selected="model"), taken.dataset_id or gr.skip(), taken.said, *filled]

    used = train.use_settings.click(
        use,
        inputs_kwargs={"run_id": train.run_id, "basis": model.basis, **model.fields},
        outputs=[page.tabs, data.dataset_id, model.travel.said, *events.filled()],
        **SETS_STATE,
    )
    wire_restored(model.choice, used)
    used.then(**again)
    fix = {"inputs_kwargs": events.given(data.dataset_id), "outputs": events.filled(), **QUICK}
    train.next_run.use_fix.click(events.fix, **fix).then(**again)


def _decide(
    page: Page, at: int, names: list[str], dataset_id: str, preset: str, **values: Any
) -> list[Any]:
    """Updates of the form's fields `names` for the choice `at` of what Start asks."""
    lengths = page.data.feed.known(dataset_id, values)
    choices = choices_of(undecided(lengths, read_form(values)[0]))
    chosen = choices[at] if at < len(choices) else {}
    return [chosen.get(name, gr.skip()) for name in names]


def _cards(
    studio: Studio, page: Page, dataset_id: str, preset: str, basis: dict, values: dict[str, Any]
) -> list[Any]:
    """Updates of `_card_outputs`."""
    lengths = page.data.feed.known(dataset_id, values) if dataset_id else None
    recipe, _ = read_form(values)
    found = estimate_now(studio, dataset_id, recipe, lengths)
    waits = bool(dataset_id and recipe) and page.data.feed.waits(dataset_id, values)
    read = read_basis(basis)
    return [
        settings_cards(studio, dataset_id, preset, read, values, found, waits),
        about_preset(preset, found),
        download_value(recipe, preset),
        *start_state(studio, Asked(dataset_id, preset, values, lengths, found)),
        *shown_question(undecided(lengths, recipe)),
    ]


def _card_outputs(page: Page) -> list[gr.blocks.Block]:
    """The estimate, the recipe file, the Start button, the next run, and what Start asks."""
    train, model = page.train, page.model
    return [
        *(model.estimate, model.when, model.travel.download, train.start),
        *train.next_run.outputs(),
        *train.decision.outputs(),
    ]


def _wire_runs(studio: Studio, page: Page) -> None:
    """Start, open and chat with runs."""
    train, chat, runs, model = page.train, page.chat, page.runs, page.model
    chosen = {"key": train.start_key, **page.chosen()}

    @show_user_errors
    def start(dataset_id: str, preset: str, key: str, **values: Any) -> tuple[str, str]:
        lengths = page.data.feed.known(dataset_id, values)
        run = start_run(studio, Asked(dataset_id, preset, values, lengths), key)
        gr.Info("The run is queued and starts by itself. You can close this page meanwhile.")
        return run.id, new_key()

    @show_user_errors
    def build_on(
        run_id: str, dataset_id: str, preset: str, key: str, **values: Any
    ) -> tuple[str, str]:
        run = start_from(studio, run_id, dataset_id, preset, key, values)
        gr.Info("Started a new run from these weights.")
        return run.id, new_key()

    started = [train.run_id, train.start_key]
    for button in (train.start, train.next_run.anyway):
        button.click(start, inputs_kwargs=chosen, outputs=started, **SETS_STATE)
    train.after.build_on.click(
        build_on, inputs_kwargs={"run_id": train.run_id, **chosen}, outputs=started, **SETS_STATE
    )
    train.shown.then(None, train.chart, None, js=RUN_SHOWN, **PRIVATE)

    base_model = model.fields["base_model"]
    # gr.on does not accept custom events such as statuschange
    page.opened["chat"].select(lambda run: warm_up(studio, run), chat.run, None, **QUICK)
    for event in (train.chart.statuschange, page.opened["chat"].select):
        choices = [base_model, chat.run]
        event(
            lambda name, run: chat_choices(studio, name, run, choose=False),
            choices,
            chat.run,
            **QUICK,
        )
    for event in (train.chart.statuschange, page.opened["runs"].select):
        event(lambda run: show_runs(studio, run), runs.chosen, runs.refreshed, **QUICK)
    runs.open.click(
        lambda run: (run, gr.Tabs(selected="train")),
        runs.chosen,
        [train.run_id, page.tabs],
        js=RUN_OPENED,
        **SETS_STATE,
    )
    for button in (train.talk, page.to_chat):
        button.click(
            lambda name, run: (chat_choices(studio, name, run), gr.Tabs(selected="chat")),
            [base_model, train.run_id],
            [chat.run, page.tabs],
            **QUICK,
        )


def _wire_load(studio: Studio, page: Page, app: gr.Blocks) -> None:
    """On page load, show the run of the URL or the newest live one, and restore the draft."""
    names = list(page.model.fields)
    train = page.train

    def load(draft: dict | None, base_model: str, request: gr.Request) -> list[Any]:
        # skip what has nothing to restore: a quick visitor may already have chosen data
        run_id = run_to_show(studio, request.query_params.get("run", ""))
        dataset_id, preset, values = restored(studio, draft)
        recipe, _ = read_form(values) if values else (None, [])
        shown = relevance(recipe) if recipe else {}
        form = [
            field_update(name, values[name], visible=shown.get(name, True)) if recipe else gr.skip()
            for name in names
        ]
        asked = request.query_params.get("tab", "")
        selected = asked if asked in page.opened else "train" if run_id else ""
        tab = gr.Tabs(selected=selected) if selected else gr.skip()
        chats = chat_choices(studio, base_model, run_id or None)
        return [
            *(run_id or gr.skip(), run_id or gr.skip(), tab, new_key(), chats),
            *(dataset_id or gr.skip(), preset if recipe else gr.skip(), *form),
            read_basis(draft.get("basis")).to_dict() if recipe and draft else gr.skip(),
        ]

    shown = [train.run_id, train.chart, page.tabs, train.start_key]
    form = [page.model.preset, *page.model.fields.values(), page.model.basis]
    base_model = page.model.fields["base_model"]
    loaded = app.load(
        load,
        [page.draft, base_model],
        [*shown, page.chat.run, page.data.dataset_id, *form],
        **SETS_STATE,
    )
    wire_restored(page.model.choice, loaded, is_first=True)
    loaded.then(
        lambda dataset_id, preset, basis, **values: _cards(
            studio, page, dataset_id, preset, basis, values
        ),
        inputs_kwargs={**page.chosen(), "basis": page.model.basis},
        outputs=_card_outputs(page),
        **SILENT,
    ).then(None, None, None, js=LOADED, **PRIVATE)
