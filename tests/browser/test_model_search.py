"""A developer without network: ShareGPT rows, QLoRA, a Hub id, and on with the starter model."""

import json
import re

from browser.page_steps import go, upload, wait_for_state
from playwright.sync_api import expect

from trainer_backend.recipe.recipe import STARTER_MODEL

STORED = "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit"


def write_sharegpt(path):
    talks = [
        [{"from": "human", "value": f"What is {n} plus 1?"}, {"from": "gpt", "value": str(n + 1)}]
        for n in range(40)
    ]
    path.write_text(json.dumps([{"conversations": talk} for talk in talks]))
    return path


def type_model(page, text):
    box = page.locator("#model-choice input")
    box.click()
    box.fill(text)
    box.press("Enter")


def search_with_the_keyboard(page):
    """Words narrow the list; arrow keys move, Enter takes, Escape leaves all as it was."""
    box, options = page.locator("#model-choice input"), page.locator("#model-results [role=option]")
    box.click()
    expect(options).not_to_have_count(0)
    expect(page.locator("#model-results")).to_contain_text("On this machine")
    box.press_sequentially("zzz")
    box.press("Escape")
    expect(box).to_have_value("SmolLM2 135M Instruct (starter)")
    box.click()
    box.fill("llama 8b")
    expect(options).to_have_count(1)
    expect(options.locator(".fit")).to_have_text(re.compile("fits|tight|too large here"))
    expect(page.locator("#model-hub")).to_contain_text("The model Hub cannot be reached")
    box.press("ArrowDown")
    expect(box).to_have_attribute("aria-activedescendant", options.get_attribute("id"))
    box.press("Enter")
    expect(box).to_have_value("Llama 3.1 8B Instruct, stored in 4 bits")


def test_a_hub_model_without_network_leads_on_to_the_starter(app, page, tmp_path):
    upload(page, write_sharegpt(tmp_path / "sharegpt.json"))
    go(page, "Model")
    about, method = page.locator("#model-about"), page.locator("#field-adapter input")
    search_with_the_keyboard(page)
    expect(about).to_contain_text("stored in 4 bits, so Method is set to QLoRA")
    expect(method).to_have_value("QLoRA (small adapter, quantized model)")
    expect(page.locator("#estimate")).to_contain_text("QLoRA")
    expect(page.locator("#estimate")).to_contain_text("All settings match the preset.")
    page.reload()
    go(page, "Model")
    expect(about).to_contain_text("stored in 4 bits, so Method is set to QLoRA")
    type_model(page, "not a model")
    expect(about).to_contain_text("an id has no spaces")
    expect(method).to_have_value("LoRA (small adapter)")
    type_model(page, "some-one/not-seen-7b")
    expect(about).to_contain_text("The Hub cannot be reached")
    expect(about).to_contain_text("On this machine: the starter model.")
    about.get_by_role("button", name="Use the starter model").click()
    expect(page.locator("#model-choice input")).to_have_value("SmolLM2 135M Instruct (starter)")
    expect(about).to_contain_text("The starter model.")
    go(page, "Train")
    expect(page.locator("#start-training")).to_be_enabled()
    page.locator("#start-training").click()
    wait_for_state(page, "preparing", "running")
    page.locator("#stop-training").click()
    wait_for_state(page, "stopped", "paused", "finished")
    newest = max((app.home / "runs").glob("run-*"), key=lambda run: run.stat().st_ctime)
    assert json.loads((newest / "spec.json").read_text())["recipe"]["base_model"] == STARTER_MODEL
