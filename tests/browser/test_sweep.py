"""Trying several values from the Train tab: what the runs would take, and mistakes."""

from browser.page_steps import go, upload, write_pairs
from playwright.sync_api import expect


def test_values_become_a_sentence_and_a_button(page, tmp_path):
    pairs = [(f"What is {n} + {n}?", str(2 * n)) for n in range(40)]
    upload(page, write_pairs(tmp_path / "sums-to-sweep.jsonl", pairs))
    go(page, "Train")
    page.locator("#sweep button").first.click()
    values = page.locator("#sweep-values-1 input, #sweep-values-1 textarea").first
    said, queue = page.locator("#sweep-said"), page.locator("#queue-sweep")
    expect(queue).to_be_disabled()
    values.fill("1e-4, 2e-4, 1e-3")
    expect(said).to_contain_text("3 runs, about ")
    expect(queue).to_have_text("Queue 3 runs")
    values.fill("1e-4, 0.0001")
    expect(said).to_contain_text("“Learning rate” (learning_rate) has the value 0.0001 twice.")
    expect(queue).to_be_disabled()
