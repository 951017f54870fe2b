"""A whole session with the real starter model: file, tokens, training, chat, export."""

import re
import time
import zipfile

import pytest
from browser.page_steps import fill_field, go, upload, wait_for_state, write_pairs
from playwright.sync_api import expect

from trainer_backend.recipe.recipe import SETTINGS

NAMES = ("Anna", "Ben", "Cleo", "Dan", "Eva", "Finn")
THINGS = ("lamps", "books", "cups", "chairs", "pens")
pytestmark = pytest.mark.slow


@pytest.fixture
def orders(tmp_path):
    pairs = [
        (f"{name} orders {number} {thing}.", f"{name}: {number} {thing}")
        for number, (name, thing) in enumerate((n, t) for n in NAMES for t in THINGS)
    ]
    return write_pairs(tmp_path / "orders.jsonl", pairs)


def choose_small_settings(page):
    go(page, "Model")
    page.locator("#form-view").get_by_role("radio", name="Expert").click()
    fill_field(page, "max_steps", "24")
    fill_field(page, "per_device_train_batch_size", "1")
    fill_field(page, "max_length", "96")
    page.get_by_role("button", name=SETTINGS["save_steps"].section).click()
    fill_field(page, "answer_check_rows", "2")
    fill_field(page, "save_steps", "4")
    expect(page.locator("#estimate")).to_contain_text("5 settings differ from the preset")


def watch_from_two_pages(app, page, open_page):
    page.wait_for_selector("[data-live=where]:text-matches('Step [1-9]')", timeout=240_000)
    assert "?run=run-" in page.url
    page.reload()
    wait_for_state(page, "running")
    canvas = page.locator("#live-chart canvas")
    expect(canvas).to_have_attribute("aria-label", re.compile("Step [1-9]"))
    other = open_page(app.url)
    wait_for_state(other, "running")
    facts = "#run-card .facts"
    assert other.locator(facts).inner_text() == page.locator(facts).inner_text()
    return other


def ask_both(page):
    page.get_by_label("number input for Maximum answer tokens").fill("12")
    page.locator("#chat-held-out").click()  # sends it
    expect(page.locator("#chat-expected")).to_contain_text(
        re.compile("lamps|books|cups|chairs|pens")
    )
    expect(page.locator("#chat-tuned .turn.user")).to_contain_text("orders")
    for side in ("base", "tuned"):
        answer = page.locator(f"#chat-{side} .turn.assistant")
        expect(answer).to_have_text(re.compile(r"\w"), timeout=120_000)
    expect(page.locator("#chat-send")).to_be_enabled(timeout=120_000)


def correct_and_reload(page):
    page.locator("#correct-answer").click()
    editor = page.locator("#correction-answer textarea")
    expect(editor).to_be_focused()
    page.locator("#correction-keep").click()
    expect(page.get_by_text("the model's own answer")).to_be_visible()
    editor.fill("The <b>right</b> answer")
    page.locator("#correction-keep").click()
    expect(page.locator("#corrections")).to_contain_text("The <b>right</b> answer")
    expect(page.locator("#chat-tuned .below .kept")).to_have_text("Corrected")
    asked = page.locator("#chat-tuned .turn.user").inner_text()
    page.reload()
    expect(page.locator("#chat-tuned .turn.user")).to_have_text(asked)
    page.locator("#chat-base [data-act=edit]").click()
    expect(page.locator("#chat-input textarea")).to_have_value(asked)
    expect(page.locator("#chat-tuned .turn")).to_have_count(0)


def stop_an_answer(page):
    page.locator("#chat-clear").click()  # after short answers the model would be brief again
    page.get_by_label("number input for Maximum answer tokens").fill("2000")
    page.locator("#chat-input textarea").fill("Tell a very long story <img src=x> ${1}")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-expected")).not_to_contain_text("Expected answer")
    expect(page.locator("#chat-stop")).to_be_enabled()
    expect(page.locator("#chat-tuned")).to_contain_text("story <img src=x> ${1}")
    expect(page.locator("#chat-base .turn.assistant")).to_have_text(re.compile(r"\w{3}"))
    began = time.monotonic()
    page.locator("#chat-stop").click()
    expect(page.locator("#chat-send")).to_be_enabled()
    assert time.monotonic() - began < 2  # a second on a machine that is not busy with tests
    expect(page.locator("#chat-tuned")).to_contain_text("You stopped this answer")


def take_it_away(page, tmp_path):
    go(page, "Runs")
    page.locator("#runs-table button.pick").first.click()
    page.locator("#run-name input, #run-name textarea").first.fill("My <b>first</b> run")
    page.locator("#run-rename").click()
    expect(page.locator("#runs-table")).to_contain_text("My <b>first</b> run")
    with page.expect_download(timeout=120_000) as download:
        page.locator("#export-run").click()
    file = tmp_path / "export.zip"
    download.value.save_as(file)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert any(name.endswith("adapter_model.safetensors") for name in archive.namelist())


def delete_it(page):
    page.locator("#run-delete").click()
    expect(page.locator("#run-delete-yes")).to_be_visible()
    page.locator("#run-delete-yes").click()
    expect(page.locator("#runs-table")).not_to_contain_text("My <b>first</b> run")


def test_from_a_file_to_a_conversation(app, page, open_page, orders, tmp_path):
    upload(page, orders)
    page.locator("#data-preview button.pick").first.click()
    learned = page.locator("#token-view .learned").last
    expect(learned).to_contain_text("Anna", timeout=120_000)
    choose_small_settings(page)
    go(page, "Train")
    page.locator("#start-training").dblclick()
    wait_for_state(page, "queued", "preparing", "running")
    other = watch_from_two_pages(app, page, open_page)
    other.locator("#stop-training").click()
    assert wait_for_state(page, "paused", "stopped") in ("paused", "stopped")
    expect(page.locator("#resume-training")).to_be_enabled()
    page.locator("#resume-training").click()
    wait_for_state(page, "finished", seconds=400)
    expect(page.locator("#evaluation [data-result=sentence]")).to_contain_text("2 rows cannot tell")
    expect(page.locator("#evaluation .row-toggle")).to_have_count(2)
    expect(page.locator("[data-live=where]")).to_have_text(re.compile("Step 24 of 24"))
    page.locator("#talk-to-it").click()
    ask_both(page)
    correct_and_reload(page)
    stop_an_answer(page)
    take_it_away(page, tmp_path)
    delete_it(page)
