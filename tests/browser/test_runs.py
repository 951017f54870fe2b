"""Someone who comes back to five runs: opens, renames, stops, exports, goes back, reloads."""

import re
import time
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from blind_tests import add_evaluation, give_checkpoint
from browser.page_steps import HOSTILE, add_finished_run, go
from playwright.sync_api import expect
from run_files import set_state

from trainer_backend.comparison.as_csv import as_csv
from trainer_backend.comparison.compare import compare_runs
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run
from trainer_backend.runs.watched.heartbeat import Heartbeat
from trainer_backend.runs.writer import RunWriter

ROWS = [{"prompt": f"Say {n}", "response": f"{n}!"} for n in range(30)]
WORKING = {"what": "Evaluating", "done": 3, "total": 12, "unit": "batches"}


@pytest.fixture
def five_runs(app, tmp_path):
    """Four finished runs and one that failed before its first step; gone after the test."""
    runs = [add_finished_run(app.home, tmp_path / str(n)) for n in range(5)]
    for number, run in enumerate(runs):
        run.rename(f"Returning {number}")
    error = {"what": "The Hub cannot be reached.", "where": "Base model", "fix": "Try later."}
    set_state(runs[4], state="failed", step=0, error=error)
    yield runs
    for run in runs:
        if run.dir.exists():
            run.delete()


@pytest.fixture
def played(app):
    """A run that this process plays: (run, writer), with the run's lock held as a worker does."""
    dataset = create_from_rows(app.home, ROWS, name="played")
    recipe = Recipe(max_steps=40, answer_check_rows=4)
    run = create_run(app.home, recipe, dataset, name="Played", foreground=True)
    with run.lock():
        writer = RunWriter(run)
        writer.heart = Heartbeat(run.dir).start()
        writer.enter("running", step=12, total_steps=40, eta_seconds=90.0, num_eval_rows=3)
        yield run, writer
        writer.heart.close()
        if not writer.has_ended():
            writer.enter("stopped")
    run.delete()


def choose(page, name: str):
    page.locator("#runs-table tr[data-pick]", has_text=name).locator("button.pick").click()
    expect(page.locator("#run-name input, #run-name textarea").first).to_have_value(name)


def toast(page, text: str):
    expect(page.locator(".toast-body").first).to_contain_text(text)
    page.locator(".toast-close").first.click()


def compare_two(page, first, second):
    """Tick two runs, compare them, restore it from the address, close it, go back and forth."""
    table, view = page.locator("#runs-table"), page.locator("#run-compare")
    for run in (first, second):
        table.locator(f'[data-tick="{run.id}"]').check()
    table.locator("[data-compare]").click()
    expect(view.locator(".compare-legend button")).to_have_text([first.name(), second.name()])
    assert page.url.endswith(f"?compare={first.id},{second.id}&tab=runs")
    expect(view.locator("[data-part=scores]")).to_contain_text("Exact match")
    expect(view.locator("[data-part=settings-note]")).to_have_text(
        "The runs have the same settings and data."
    )
    expect(view.locator(".compare-row .expected-text")).to_contain_text("<script>alert(1)")
    with page.expect_download() as download:
        view.locator("[data-tool=csv]").click()
    csv = as_csv(compare_runs(first.home, [first.id, second.id]))
    assert Path(download.value.path()).read_text(encoding="utf-8") == csv
    page.reload()
    expect(view.locator(".compare-legend button")).to_have_count(2)
    expect(table.locator("input:checked")).to_have_count(2)
    view.locator("[data-tool=close]").click()
    expect(view).to_be_hidden()
    table.locator("[data-clear]").click()
    page.locator("#runs-filter input, #runs-filter textarea").first.fill("failed")
    expect(table.locator("tr[data-pick]")).to_have_count(1)
    page.locator("#runs-filter input, #runs-filter textarea").first.fill("returning")
    table.locator("[data-sort=name]").click()
    expect(table.locator("button.pick")).to_have_text([f"Returning {n}" for n in range(5)])
    page.locator("#runs-filter input, #runs-filter textarea").first.fill("")


def test_a_returning_user_with_five_runs(app, open_page, five_runs):
    page = open_page(app.url)
    go(page, "Runs")
    table = page.locator("#runs-table")
    expect(table.locator(".run-state.failed")).to_have_text("Failed")
    compare_two(page, five_runs[0], five_runs[1])
    choose(page, "Returning 1")
    name = page.locator("#run-name input, #run-name textarea").first
    name.fill("")
    page.locator("#run-rename").click()
    for part in ("This name cannot be used.", "Returning 1"):
        expect(page.locator(".toast-body")).to_contain_text(part)
    toast(page, "Use 1 to 120 characters.")
    name.fill("Renamed")
    page.locator("#run-rename").click()
    expect(table).to_contain_text("Renamed")
    page.locator("#run-delete").click()
    expect(page.locator("#run-delete-confirm")).to_contain_text("Delete “Renamed”?")
    page.locator("#run-delete-no").click()
    expect(page.locator("#export-file")).to_be_hidden()  # after updates around it too
    expect(page.locator("#export-run")).to_have_text("Export and download")
    page.locator("#run-open").click()
    expect(page.locator("#run-card")).to_contain_text("Renamed")
    expect(page).to_have_title(re.compile("✓ done"))
    go(page, "Runs")
    choose(page, "Returning 4")
    page.locator("#run-open").click()
    expect(page.locator("#resume-training")).to_have_text("Try again")
    expect(page).to_have_title(re.compile("✗ failed"))
    page.go_back()
    expect(page.get_by_role("tab", name="Runs", exact=True)).to_have_attribute(
        "aria-selected", "true"
    )
    page.go_back()
    expect(page.locator("#run-card")).to_contain_text("Renamed")
    page.reload()
    expect(page.locator("#run-card")).to_contain_text("Renamed")
    expect(page.locator("#step-train")).to_have_attribute("aria-current", "step")


def stop_shows_at_once(page):
    stop = page.locator("#stop-training")
    expect(stop).to_have_attribute("data-state", "idle")
    began = time.monotonic()
    stop.click()
    expect(stop).to_have_attribute("data-state", "stopping")
    expect(page.locator("[data-live=state]")).to_have_text("Stopping…")
    assert time.monotonic() - began < 2  # a second on a machine that is not busy with tests
    expect(stop).to_be_disabled()
    expect(page.locator("#stop-late")).to_contain_text("a checkpoint is saved")
    expect(page.locator("#end-now")).to_be_hidden()
    page.reload()
    expect(stop).to_have_attribute("data-state", "stopping")


def follow_the_log(page, run):
    with open(run.dir / "worker.log", "a") as log:
        log.write("".join(f"line {n}\n" for n in range(400)))
    go(page, "Runs")
    with open(run.dir / "worker.log", "a") as log:
        log.write("the last line\n")
    page.wait_for_timeout(1500)
    go(page, "Train")
    box = page.locator("[data-live=log]")
    expect(box).to_contain_text("the last line")
    ends = "node => node.scrollHeight - node.scrollTop - node.clientHeight < 4"
    assert box.evaluate(ends)


def test_phases_and_a_stop_show_at_once_and_leave_the_bar(app, open_page, played):
    run, writer = played
    page = open_page(f"{app.url}/?run={run.id}")
    bar, left = page.locator("#live-chart .progress-bar"), page.locator("[data-live=left]")
    expect(bar).to_have_attribute("aria-valuenow", "30")
    expect(left).to_have_text("about 1 min 30 s left, then the evaluation")
    expect(page.locator("#start-training")).not_to_have_class(re.compile("primary"))
    writer.update(now=True, progress=WORKING)
    expect(page.locator("[data-live=state]")).to_have_text("Evaluating")
    expect(page.locator("[data-live=phase_what]")).to_have_text("Evaluating: 3 of 12 batches")
    expect(page.locator("#live-chart .phase-bar")).to_have_attribute("aria-valuenow", "25")
    expect(bar).to_have_attribute("aria-valuenow", "30")
    checking = {**WORKING, "what": "Asking the tuned model", "unit": "answers"}
    writer.update(now=True, step=40, progress=checking, eta_seconds=0.0)
    expect(page.locator("[data-live=phase_what]")).to_have_text("Asking the tuned model: 3 of 12")
    expect(page.locator("[data-live=state]")).to_have_text("Evaluating")
    expect(page).to_have_title(re.compile("^Evaluating"))
    expect(bar).to_have_attribute("aria-valuenow", "100")
    stop_shows_at_once(page)
    follow_the_log(page, run)
    writer.enter("stopped")
    expect(page.locator("#resume-training")).to_have_text("Try again")
    expect(page.locator("#stop-training")).to_have_attribute("data-state", "idle")


def test_the_eighth_page_of_a_browser_works_like_the_first(app, open_page):
    first = open_page(app.url)
    pages = [first, *(first.context.new_page() for _ in range(7))]
    for page in pages[1:]:
        page.goto(app.url)
        page.wait_for_selector("[role=tab]")
    pages[-1].locator("#data-sample label").first.click()
    expect(pages[-1].locator("#data-report")).to_contain_text("held out")


def test_a_blind_test_by_keys_survives_a_reload(app, open_page, tmp_path):
    run = give_checkpoint(add_finished_run(app.home, tmp_path), step=40)
    add_evaluation(run, 4, word=HOSTILE, step=40)
    page = open_page(f"{app.url}/?run={run.id}&tab=train")
    page.locator("#train-blind").click()
    page.locator("[data-setup=rows]").fill("3")
    page.locator("#blind-start").click()
    number, test = page.locator("[data-question=number]"), page.locator("#blind-test")
    expect(number).to_have_text("1 of 3")
    expect(test).not_to_contain_text("Tuned model")
    page.wait_for_timeout(500)
    page.keyboard.press("1")
    expect(number).to_have_text("2 of 3")
    page.reload()
    expect(number).to_have_text("2 of 3")
    expect(page.locator("#blind-left")).to_be_enabled()
    found = Axe().run(page, context="#blind-test", options={"runOnly": ["wcag2a", "wcag2aa"]})
    assert [one["id"] for one in found.response["violations"]] == []
    page.wait_for_timeout(500)
    page.keyboard.press("0")
    expect(number).to_have_text("3 of 3")
    page.keyboard.press("u")
    expect(number).to_have_text("2 of 3")
    for _ in range(2):
        page.wait_for_timeout(500)
        page.locator("#blind-right").click()
    result = page.locator("#blind-result")
    expect(result).to_contain_text("Win rate of Tuned model")
    expect(result).to_contain_text(HOSTILE)
    page.keyboard.press("Escape")
    expect(test).to_be_hidden()
    expect(page).not_to_have_url(re.compile("blind="))  # the event of the dialog comes later
    run.delete()
