"""The whole page: header, tabs in order, everything that happens between tabs, page load.

What happens inside a tab is in the tab's own file.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from markupsafe import Markup

from sft_ui import access
from sft_ui.alerts import attempt, show_user_errors, tell
from sft_ui.chat.tab import ChatTab, build_chat_tab, chat_choices, warm_up
from sft_ui.context import PRIVATE, QUICK, SETS_STATE, Studio
from sft_ui.data.events import wire_events
from sft_ui.data.tab import DataTab, build_data_tab
from sft_ui.data.wiring import wire_data
from sft_ui.dataset_files import build_routes
from sft_ui.model.tab import ModelTab, build_model_tab, estimate
from sft_ui.recipe_form import edits, form_values, read_form, relevance
from sft_ui.runs.tab import RunsTab, build_runs_tab, show_runs
from sft_ui.theme import STYLE_SHEETS, build_theme
from sft_ui.train.after_run import start_from
from sft_ui.train.tab import TrainTab, build_train_tab, new_key, start_run, start_state
from sft_ui.web_api import build_web_api
from trainer_backend.data.store import open_dataset
from trainer_backend.hardware import hardware
from trainer_backend.runs import LIVE, list_runs, open_run


def run_to_show(studio: Studio, asked: str) -> str:
    """The run in the address if there is one, else the newest that is live, else none."""
    if asked:
        run, error = attempt(open_run, studio.home, asked)
        if run:
            return run.id
        tell(error)
    live = (run.id for run in list_runs(studio.home) if run.state()["state"] in LIVE)
    return next(live, "")


def restored(studio: Studio, draft: dict | None) -> tuple[str, str, dict]:
    """Dataset, preset and form values a reload brings back, as far as they still hold."""
    if not isinstance(draft, dict):
        return "", "", {}
    dataset_id = str(draft.get("dataset_id") or "")
    dataset, _ = attempt(open_dataset, studio.home, dataset_id) if dataset_id else (None, None)
    values = draft.get("values") if isinstance(draft.get("values"), dict) else {}
    recipe, problems = read_form(values)
    whole = form_values(recipe) if recipe and not problems and values else {}
    return (dataset.id if dataset else ""), str(draft.get("preset") or ""), whole


TITLE = "SFT Studio"
MAX_UPLOAD = "16gb"
MAX_PAGES = 300  # open pages that are remembered; each takes 0.4 MB, and they never expire
KEEP_UPLOADS_S = (3600, 86400)
TABS = ("data", "model", "train", "chat", "runs")
SWITCH_THEME = """
element.querySelector('button')
  .addEventListener('click', () => document.body.classList.toggle('dark'));
"""
# The address names the run that is shown, so that a reload or a shared link shows it again.
RUN_IN_ADDRESS = """(run) => {
  const address = new URL(location.href);
  if (run) address.searchParams.set('run', run); else address.searchParams.delete('run');
  history.replaceState(null, '', address);
}"""


@dataclass(frozen=True)
class Page:
    """The five tabs and what belongs to the page as a whole."""

    tabs: gr.Tabs
    data: DataTab
    model: ModelTab
    train: TrainTab
    chat: ChatTab
    runs: RunsTab
    draft: gr.BrowserState
    opened: dict[str, gr.Tab]


def build_app(home: Path, scheduler, model_process) -> gr.Blocks:
    """Build the page. Nothing starts here: the caller starts the scheduler and launches."""
    os.environ.setdefault("GRADIO_TEMP_DIR", str(home / "tmp" / "uploads"))
    studio = Studio(home, scheduler, model_process)
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=KEEP_UPLOADS_S
    ) as app:
        gr.HTML(header(hardware().label()), js_on_load=SWITCH_THEME)
        page = _build_tabs(studio)
        _wire_settings(studio, page)
        _wire_runs(studio, page)
        _wire_load(studio, page, app)
        build_web_api(studio)
    return app.queue(default_concurrency_limit=8)


def launch_options(
    home: Path, *, host: str, port: int | None = None, auth: str | None = None, allow_open=False
) -> dict:
    """Everything `launch` needs. Raises UserError when the page would be open to everyone."""
    login = access.read_login(auth)
    access.check_bind(host, login, allow_open=allow_open)
    return {
        "server_name": host,
        "server_port": port,
        "auth": login,
        "theme": build_theme(),
        "css_paths": STYLE_SHEETS,
        "app_kwargs": {
            "middleware": access.build_middleware(host),
            "routes": build_routes(home),
        },
        "allowed_paths": [str(home / "exports")],
        "footer_links": ["api"],
        "run_history": False,
        "ssr_mode": False,
        "share": False,
        "max_file_size": MAX_UPLOAD,
        "state_session_capacity": MAX_PAGES,
    }


def header(device: str) -> Markup:
    """Name, device and the switch between light and dark."""
    template = Markup(
        '<header class="masthead"><div class="logo" aria-hidden="true">S</div>'
        "<div><h1>{}</h1><p>Teach a language model from your examples</p></div>"
        '<div class="space"></div><span class="pill">{}</span>'
        '<button type="button" aria-label="Switch between light and dark" title="Light or dark">'
        "◐</button></header>"
    )
    return template.format(TITLE, device)


def _build_tabs(studio: Studio) -> Page:
    draft = gr.BrowserState(None, storage_key="sft-studio-draft", secret="sft-studio")
    builders = (build_data_tab, build_model_tab, build_train_tab, build_chat_tab, build_runs_tab)
    built, opened = [], {}
    with gr.Tabs(selected="data") as tabs:
        for name, build in zip(TABS, builders, strict=True):
            with gr.Tab(name.capitalize(), id=name) as tab:
                built.append(build(studio))
            opened[name] = tab
    return Page(tabs, *built, draft, opened)


def _wire_settings(studio: Studio, page: Page) -> None:
    """Data and settings decide the estimate, what Start says, and the held-out share."""
    data, model, train = page.data, page.model, page.train
    chosen = {"dataset_id": data.dataset_id, "preset": model.preset, **model.fields}

    def refresh(dataset_id: str, preset: str, **values):
        draft = {"dataset_id": dataset_id, "preset": preset, "values": values}
        means = estimate(studio, dataset_id, preset, values)
        return [means, *start_state(studio, dataset_id, preset, values), draft]

    refreshed = [model.estimate, train.start, train.next_card, page.draft]
    again = {"inputs_kwargs": chosen, "outputs": refreshed, "trigger_mode": "always_last", **QUICK}
    gr.on(edits(model.fields), refresh, **again)
    for event in model.filled:
        event.then(refresh, **again)
    train.chart.statuschange(refresh, **again)

    wire_events(studio, data)
    wire_data(studio, data, model.fields, page.opened["data"], {"fn": refresh, **again})


def _wire_runs(studio: Studio, page: Page) -> None:
    """Starting, opening and talking to runs."""
    train, chat, runs, model = page.train, page.chat, page.runs, page.model
    chosen = {
        "dataset_id": page.data.dataset_id,
        "preset": model.preset,
        "key": train.start_key,
        **model.fields,
    }

    @show_user_errors
    def start(dataset_id: str, preset: str, key: str, **values):
        run = start_run(studio, dataset_id, preset, key, values)
        gr.Info("The run is on its way. You can close this page; it goes on.")
        return run.id, new_key()

    @show_user_errors
    def build_on(run_id: str, dataset_id: str, preset: str, key: str, **values):
        run = start_from(studio, run_id, dataset_id, preset, key, values)
        gr.Info("A new run starts from these weights.")
        return run.id, new_key()

    started = [train.run_id, train.start_key]
    train.start.click(start, inputs_kwargs=chosen, outputs=started, **SETS_STATE)
    train.after.build_on.click(
        build_on, inputs_kwargs={"run_id": train.run_id, **chosen}, outputs=started, **SETS_STATE
    )
    train.shown.then(None, train.chart, None, js=RUN_IN_ADDRESS, **PRIVATE)

    base_model = model.fields["base_model"]
    # an event of our own, like statuschange, cannot be listed in gr.on
    page.opened["chat"].select(lambda run: warm_up(studio, run), chat.run, None, **QUICK)
    for event in (train.chart.statuschange, page.opened["chat"].select):
        choices = [base_model, chat.run]
        event(lambda name, run: chat_choices(studio, name, run), choices, chat.run, **QUICK)
    for event in (train.chart.statuschange, page.opened["runs"].select):
        event(lambda run: show_runs(studio, run), runs.chosen, runs.refreshed, **QUICK)
    runs.open.click(
        lambda run: (run, gr.Tabs(selected="train")),
        runs.chosen,
        [train.run_id, page.tabs],
        **SETS_STATE,
    )
    train.talk.click(
        lambda name, run: (chat_choices(studio, name, run), gr.Tabs(selected="chat")),
        [base_model, train.run_id],
        [chat.run, page.tabs],
        **QUICK,
    )


def _wire_load(studio: Studio, page: Page, app: gr.Blocks) -> None:
    """A page that opens shows the run in its address or the newest live one, and the draft."""
    names = list(page.model.fields)
    train = page.train

    def load(draft: dict | None, base_model: str, request: gr.Request):
        # nothing to restore leaves things alone: a quick visitor may already have chosen data
        run_id = run_to_show(studio, request.query_params.get("run", ""))
        dataset_id, preset, values = restored(studio, draft)
        recipe, _ = read_form(values) if values else (None, [])
        shown = relevance(recipe) if recipe else {}
        form = [
            gr.update(value=values[name], visible=shown.get(name, True)) if recipe else gr.skip()
            for name in names
        ]
        tab = gr.Tabs(selected="train") if run_id else gr.skip()
        chats = chat_choices(studio, base_model, run_id or None)
        return [
            *(run_id or gr.skip(), run_id or gr.skip(), tab, new_key(), chats),
            *(dataset_id or gr.skip(), preset if recipe else gr.skip(), *form),
        ]

    shown = [train.run_id, train.chart, page.tabs, train.start_key]
    form = [page.model.preset, *page.model.fields.values()]
    app.load(
        load,
        [page.draft, page.model.fields["base_model"]],
        [*shown, page.chat.run, page.data.dataset_id, *form],
        **SETS_STATE,
    ).then(
        lambda dataset_id, preset, **values: [
            estimate(studio, dataset_id, preset, values),
            *start_state(studio, dataset_id, preset, values),
        ],
        inputs_kwargs={
            "dataset_id": page.data.dataset_id,
            "preset": page.model.preset,
            **page.model.fields,
        },
        outputs=[page.model.estimate, train.start, train.next_card],
        **QUICK,
    )
