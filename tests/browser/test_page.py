"""The page without training: escaping, small screens, dark theme, keyboard, invalid input."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.page_steps import HOSTILE, fill_field, go, upload, wait_for_state, write_pairs
from playwright.sync_api import expect

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
TABS = ("Data", "Model", "Train", "Chat", "Runs")
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}}


@pytest.fixture
def hostile_file(tmp_path):
    pairs = [(f"{HOSTILE} {number}", HOSTILE) for number in range(40)]
    return write_pairs(tmp_path / "hostile.jsonl", pairs)


def test_first_page_is_quick_and_says_what_to_do(page):
    expect(page.locator("#data-report")).to_contain_text("No data yet")
    go(page, "Train")
    expect(page.locator("#start-training")).to_be_disabled()
    expect(page.locator("#start-training")).to_have_text("Choose data first")
    expect(page.locator("#live-chart")).to_have_attribute("data-status", "idle")


def test_a_sample_is_one_click_away(page):
    page.locator("#data-sample label").first.click()
    expect(page.locator("#data-report")).to_contain_text("held out")
    expect(page.locator("#data-preview tbody tr")).to_have_count(25)
    page.locator("#rows-next").click()
    expect(page.locator("#rows-line")).to_contain_text("Rows 26 to 50")
    page.locator("#row-go-to input, #row-go-to textarea").first.fill("101")
    page.keyboard.press("Enter")
    expect(page.locator("#data-preview button.pick").first).to_have_text("101")


def test_hostile_rows_are_text(page, hostile_file):
    upload(page, hostile_file)
    expect(page.locator("#data-preview")).to_contain_text("<script>alert(1)</script>")
    page.locator("#data-preview button.pick").nth(1).press("Enter")
    tokens = page.locator("#token-view .tokens")
    expect(tokens).to_contain_text("${", timeout=120_000)
    assert tokens.locator("span.learned").count() and tokens.locator("span.context").count()
    assert page.locator("#data-preview img, #token-view img, #data-preview script").count() == 0


def test_a_hostile_run_is_text_everywhere(app, open_page, finished_run):
    page = open_page(f"{app.url}/?run={finished_run.id}")
    wait_for_state(page, "finished")
    for part in (
        "#run-card",
        "#run-log",
        "#evaluation [data-result=sentence]",
        "#evaluation [data-result=warnings]",
        "#evaluation tbody",
        ".samples",
        "[data-live=warnings]",
        "[data-live=paths]",
    ):
        expect(page.locator(part)).to_contain_text("<script>alert(1)</script>")
    assert page.locator("#evaluation img, .samples img").count() == 0
    go(page, "Runs")
    expect(page.locator("#runs-table")).to_contain_text("<script>alert(1)</script>")
    assert page.locator("main img:not(footer img)").count() == 0


def test_the_live_view_reads_with_the_keyboard_and_switches_curves(app, open_page, finished_run):
    page = open_page(f"{app.url}/?run={finished_run.id}")
    wait_for_state(page, "finished")
    canvas = page.locator("#live-chart canvas")
    assert "Step 40 of 40" in canvas.get_attribute("aria-label")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".chart-tip")).to_contain_text("step")
    page.keyboard.press("Escape")
    expect(page.locator(".chart-tip")).to_be_hidden()
    page.get_by_role("button", name="Gradient norm").click()
    expect(page.locator("[data-live=legend]")).to_have_text("gradient norm")

    page.get_by_role("button", name="Speed").click()  # has no logarithm
    expect(page.locator('[data-tool="log"]')).to_be_disabled()
    read_the_result(page)


def read_the_result(page):
    """The table of the evaluation by the keyboard: order, filter, a row in full, the download."""
    table = page.locator("#evaluation .table-scroll > table")
    toggles = table.locator(".row-toggle")
    expect(page.locator("#evaluation [data-main=tuned]")).to_have_text("66.7%")
    expect(toggles).to_have_text(["0", "1", "2"])  # worst first
    expect(table.locator("tbody tr").first.locator("ins")).to_have_text("more")
    by_row = table.get_by_role("columnheader", name="Row")
    for order, rows in (("ascending", ["0", "1", "2"]), ("descending", ["2", "1", "0"])):
        by_row.get_by_role("button").press("Enter")
        expect(by_row).to_have_attribute("aria-sort", order)
        expect(toggles).to_have_text(rows)
    page.get_by_label("Wrong only").check()
    expect(toggles).to_have_text(["0"])
    toggles.press("Enter")
    expect(toggles).to_have_attribute("aria-expanded", "true")
    expect(table.locator(".conversation")).to_contain_text("Row 0")
    expect(table.get_by_role("button", name="Correct this answer")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").first.click()
    assert "exact_match_tuned" in download.value.path().read_text(encoding="utf-8")


def test_wrong_settings_are_named_and_stop_the_start(page):
    page.locator("#data-sample label").first.click()
    expect(page.locator("#data-report")).to_contain_text("held out")
    go(page, "Model")
    fill_field(page, "learning_rate", "abc")
    expect(page.locator("#estimate")).to_contain_text("“Learning rate” cannot be 'abc'")
    fill_field(page, "learning_rate", "1e9")
    expect(page.locator("#estimate")).to_contain_text("Use a number from")
    go(page, "Train")
    expect(page.locator("#start-training")).to_have_text("Fix Learning rate first")
    page.get_by_role("button", name="Go to Learning rate").click()
    expect(page.locator("#field-learning_rate")).to_contain_text("Use a number from")
    expect(page.locator("#field-learning_rate").get_by_role("textbox")).to_be_focused()
    fill_field(page, "learning_rate", "0.001")
    fill_field(page, "max_steps", "7")
    expect(page.locator("#estimate")).to_contain_text("1 setting differs from the preset")
    expect(page.locator("#estimate")).to_have_attribute("data-fits", "yes")
    page.get_by_role("button", name="Back to 20").click()
    expect(page.locator("#field-max_steps input")).to_have_value("20")
    page.locator("#preset-choice label", has_text="Full").click()
    expect(page.locator("#estimate")).to_contain_text("All settings match the preset")
    expect(page.locator("#field-lora_r")).to_be_hidden()


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("empty.csv", b"", "empty"),
        ("header.csv", b"prompt,response\n", "no rows"),
        ("broken.jsonl", b'{"prompt": "a", "response": "b"}\n{"prompt": \n', "2"),
        ("<img src=x onerror=alert(1)>.csv", b"", "empty"),
    ],
)
def test_a_bad_file_is_explained_and_the_old_data_stay(page, tmp_path, name, content, said):
    upload(page, write_pairs(tmp_path / "good.jsonl", [("a", "b"), ("c", "d")]))
    file = tmp_path / name
    file.write_bytes(content)
    page.set_input_files("#data-upload input[type=file]", file)
    expect(page.locator("#data-notice")).to_contain_text(re.compile(said, re.IGNORECASE))
    expect(page.locator("#data-report")).to_contain_text("good.jsonl")
    assert "Traceback" not in page.content()


def test_unclear_columns_are_asked_for(page, tmp_path):
    file = tmp_path / "unclear.csv"
    file.write_text("left,right\n" + "".join(f"l{n},r{n}\n" for n in range(30)))
    upload(page, file)
    go(page, "Train")
    expect(page.locator("#start-training")).to_contain_text("column roles")
    go(page, "Data")
    expect(page.locator("#apply-columns")).to_be_disabled()  # nothing is guessed
    page.get_by_label("The person asks (prompt)").select_option("left")
    page.get_by_label("The model should answer (completion)").select_option("right")
    page.locator("#apply-columns").click()
    expect(page.locator("#data-report")).to_contain_text("30 usable examples")
    go(page, "Train")
    expect(page.locator("#start-training")).to_be_enabled()


def test_typed_examples_become_data(page):
    page.get_by_role("button", name="Or type a few examples").click()
    texts = ("What is 2+2?", "4", "What is 3+3?", "6")
    for text, place in zip(texts, ("0-0", "0-1", "1-0", "1-1"), strict=True):
        page.locator(f"#data-grid [data-testid='cell-{place}']").dblclick()
        page.wait_for_timeout(400)
        page.keyboard.type(text)
        page.keyboard.press("Enter")
        page.wait_for_timeout(400)
    page.locator("#data-paste textarea").fill('What is 4+4?\t8\n"Two\nlines"\t2')
    page.locator("#use-grid").click()
    expect(page.locator("#data-report")).to_contain_text("4 usable examples")


def test_settings_and_data_survive_a_reload(page):
    page.locator("#data-sample label").nth(1).click()
    expect(page.locator("#data-report")).to_contain_text("Support chats")
    go(page, "Model")
    fill_field(page, "max_steps", "9")
    expect(page.locator("#estimate")).to_contain_text("differs from the preset")
    page.reload()
    expect(page.locator("#data-report")).to_contain_text("Support chats")
    go(page, "Model")
    expect(page.locator("#field-max_steps input")).to_have_value("9")


def test_an_unknown_run_in_the_address_is_reported(app, open_page):
    page = open_page(f"{app.url}/?run=run-000000000000")
    expect(page.locator(".toast-body")).to_contain_text("no such run")
    expect(page.locator("#data-report")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_violation_and_nothing_wider_than_a_phone(app, open_page, finished_run, scheme):
    page = open_page(f"{app.url}/?run={finished_run.id}", color_scheme=scheme, **PHONE)
    wait_for_state(page, "finished")
    for tab in TABS:
        go(page, tab)
        if tab == "Train":
            page.locator(".result-rows > summary").click()
            page.locator(".row-toggle").first.click()
        page.wait_for_timeout(700)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{tab} is {wide} pixels too wide"
        found = Axe().run(page, options=RULES).response["violations"]
        serious = [
            (tab, one["id"], [node["html"][:120] for node in one["nodes"]][:3])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []


def test_the_theme_can_be_switched(page):
    was_dark = page.evaluate("document.body.classList.contains('dark')")
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate("document.body.classList.contains('dark')") is not was_dark
