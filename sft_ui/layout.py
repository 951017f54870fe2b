"""The page: header, tabs, page load, and every event that crosses tabs.

Events within one tab belong to that tab; no tab imports another.
"""

import os
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import BlocksConfigDict
from markupsafe import Markup

from sft_ui import access
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.blind.room import build_blind
from sft_ui.chat.kept_talks import build_talks
from sft_ui.chat.tab import build_chat_tab, chat_choices, warm_up
from sft_ui.context import PRIVATE, QUICK, SETS_STATE, SILENT, Studio
from sft_ui.corrections.editor import build_correction, open_correction
from sft_ui.corrections.kept_list import shown as shown_corrections
from sft_ui.corrections.kept_list import wire_corrections
from sft_ui.data.dataset_files import build_routes
from sft_ui.data.tab import build_data_tab
from sft_ui.model.basis import read_basis
from sft_ui.model.model_events import wire_restored
from sft_ui.model.tab import build_model_tab
from sft_ui.navigation.restoring import restored, run_to_show
from sft_ui.navigation.stepper import build_stepper, stepper, steps_done
from sft_ui.page.parts import Page
from sft_ui.page.settings import card_outputs, cards, wire_settings
from sft_ui.page.sweeping import wire_sweep
from sft_ui.recipe_form import field_update, read_form, relevance
from sft_ui.runs.tab import build_runs_tab, show_runs
from sft_ui.theme import STYLE_SHEETS, build_theme, static_text
from sft_ui.train.after_run import start_from
from sft_ui.train.next_run_card.next_run import Asked, new_key, start_run
from sft_ui.train.tab import build_train_tab
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
        build_blind(studio).correct(
            lambda run: shown_corrections(studio, run),
            *(page.chat.run, page.chat.corrections.outputs()),
            **SETS_STATE,
        )
        _wire_way(studio, page)
        wire_settings(studio, page)
        wire_sweep(studio, page)
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

    editor, talks = build_correction(studio), build_talks()
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
            chat = build_chat_tab(studio, editor, talks)
        with tab("runs"):
            runs = build_runs_tab(studio)
    open_correction(studio, editor, train.result.correct)
    wire_corrections(studio, editor, chat.corrections, chat.run, (train.run_id, tabs))
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
        event(lambda *asked: show_runs(studio, *asked), runs.asked, runs.refreshed, **QUICK)
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
        known = request.query_params
        asked = known.get("tab", "runs" if known.get("compare") else "")
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
        lambda dataset_id, preset, basis, **values: cards(
            studio, page, dataset_id, preset, basis, values
        ),
        inputs_kwargs={**page.chosen(), "basis": page.model.basis},
        outputs=card_outputs(page),
        **SILENT,
    ).then(None, None, None, js=LOADED, **PRIVATE)
