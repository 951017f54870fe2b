"""The page as a whole: element ids, tabs, names of the web API, restoring after a reload."""

import functools
import inspect
import json
from types import SimpleNamespace

import pytest

from sft_ui import layout
from sft_ui.navigation.restoring import restored, run_to_show
from sft_ui.recipe_form import form_values
from sft_ui.web_api import public, read_json_object
from trainer_backend.errors import UserError
from trainer_backend.home import write_json
from trainer_backend.recipe.recipe import Recipe

IDS = (
    "data-upload data-sample data-preview data-report token-view model-choice preset-choice "
    "recipe-form estimate start-training stop-training resume-training live-chart chat-run "
    "chat-input chat-send chat-stop chat-base chat-tuned runs-table export-format export-run "
    "run-compare compare-pick"
).split()
API = (
    "load_dataset estimate start_training run_status run_metrics stop_training resume_training "
    "list_runs chat export_run evaluate_run compare_runs"
).split()


SPEAKS = ("gr.Info(", "gr.Warning(", "gr.Error(", "tell(", "raise ", "show_user_errors")


@pytest.fixture
def app(studio):
    return layout.build_app(studio.home, studio.scheduler, studio.model_process)


@pytest.fixture
def config(app):
    return app.get_config_file()


def layers(handler):
    """A handler and the functions it wraps, outermost first."""
    while handler is not None:
        yield handler
        partial = isinstance(handler, functools.partial)
        handler = handler.func if partial else getattr(handler, "__wrapped__", None)


def speaks(handler):
    """Whether a handler may show a message, by its own source and its wrappers."""
    sources = [inspect.getsource(one) for one in layers(handler) if inspect.isroutine(one)]
    return any(word in source for source in sources for word in SPEAKS)


def test_every_event_that_can_show_a_message_goes_through_the_queue(app):
    handlers = [(one.fn, one.queue) for one in app.fns.values() if callable(one.fn)]
    assert sum(speaks(fn) for fn, _ in handlers) > 30
    assert [fn for fn, queue in handlers if not queue and speaks(fn)] == []


def test_no_open_page_holds_a_connection_for_good(config):
    assert config["connect_heartbeat"] is False


def test_the_tabs_are_in_order(config):
    labels = [c["props"]["label"] for c in config["components"] if c["type"] == "tabitem"]
    assert labels == ["Data", "Model", "Train", "Chat", "Runs"]


def test_every_part_has_its_id(config):
    found = {component["props"].get("elem_id") for component in config["components"]}
    assert set(IDS) <= found
    template = next(
        c["props"]["html_template"]
        for c in config["components"]
        if c["props"].get("elem_id") == "live-chart"
    )
    assert 'id="run-log"' in template and "${" not in template and "{{" not in template


def test_the_web_api_has_its_names_and_no_others(config):
    public_names = {
        one["api_name"] for one in config["dependencies"] if one["api_visibility"] == "public"
    }
    assert public_names == set(API)


def test_templates_with_values_are_gradios_own(config):
    for component in config["components"]:
        template = component["props"].get("html_template", "${value}")
        assert template == "${value}" or not ("${" in template or "{{" in template)


def test_launch_options_refuse_an_open_page(home, monkeypatch):
    monkeypatch.delenv("SFT_STUDIO_AUTH", raising=False)
    monkeypatch.delenv("SPACE_ID", raising=False)
    with pytest.raises(UserError):
        layout.launch_options(home, host="0.0.0.0")
    options = layout.launch_options(home, host="127.0.0.1", port=7860)
    assert options["auth"] is None and options["share"] is False and options["ssr_mode"] is False
    assert options["run_history"] is False and options["max_file_size"]


def test_a_reload_restores_data_and_settings(studio, dataset):
    values = form_values(Recipe(max_steps=7))
    draft = {"dataset_id": dataset.id, "preset": "quick_try", "values": values}
    assert restored(studio, json.loads(json.dumps(draft))) == (
        dataset.id,
        "quick_try",
        values,
    )


@pytest.mark.parametrize(
    "draft", [None, [], {"dataset_id": "../x", "values": {"a": 1}}, {"values": 3}]
)
def test_an_invalid_draft_is_ignored(studio, draft):
    dataset_id, _, values = restored(studio, draft)
    assert dataset_id == "" and values == {}


def test_the_newest_live_run_is_shown_first(studio, run):
    assert run_to_show(studio, "") == run.id
    write_json(run.dir / "state.json", {**run.state(), "state": "finished"})
    assert run_to_show(studio, "") == ""
    assert run_to_show(studio, run.id) == run.id


def test_a_recipe_may_be_text_or_an_object():
    assert read_json_object('{"preset": "quick_try"}') == {"preset": "quick_try"}
    assert read_json_object({"max_steps": 6}) == {"max_steps": 6}
    for wrong in ("[1]", "{", "3", "[" * 100_000, SimpleNamespace()):
        with pytest.raises(UserError):
            read_json_object(wrong)


def test_the_path_of_a_run_is_not_public(run):
    assert "dir" not in public(run.summary()) and public(run.summary())["id"] == run.id
