"""A session in the Data tab: load, map columns, browse, fix, edit, download."""

import json
import re
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.page_steps import HOSTILE, fill_field, go, upload
from playwright.sync_api import expect

RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture
def orders(tmp_path):
    """Rows with duplicates, an empty answer and a long one; every cell contains markup."""
    rows = [{"ask": f"{HOSTILE} {n}", "reply": f"Reply {n}. {HOSTILE}"} for n in range(40)]
    rows += rows[:4] + [{"ask": "Empty?", "reply": ""}]
    rows[30]["reply"] = "many words " * 400
    path = tmp_path / f"{HOSTILE[:31]}.jsonl".replace("/", "_")
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def choose_columns(page):
    pickers = page.locator("#data-preview th select")
    expect(pickers).to_have_count(2)
    pickers.nth(0).select_option("completion")
    expect(page.locator("#apply-columns")).to_be_disabled()
    pickers.nth(1).select_option("prompt")
    pickers.nth(0).select_option("prompt")  # clears it in the other header
    expect(pickers.nth(1)).to_have_value("")
    pickers.nth(1).select_option("completion")
    expect(page.locator("#mapping-preview")).to_contain_text("Reply 0. <script>alert(1)</script>")
    page.locator("#apply-columns").click()
    expect(page.locator("#data-report")).to_contain_text("44 usable examples")


def clean(page):
    findings = page.locator("#data-report .finding")
    expect(findings.filter(has_text="repeat an earlier row")).to_contain_text("4 rows")
    findings.filter(has_text="repeat an earlier row").get_by_text("Show these rows").click()
    expect(page.locator("#rows-line")).to_contain_text("Rows 1 to 4 of 4 matching, 45 in all")
    for picker in findings.locator("select").all():
        picker.select_option("")
    findings.filter(has_text="repeat an earlier row").locator("select").select_option("keep_one")
    page.locator("#make-cleaned").click()
    versions = page.locator("#data-report .versions button")
    expect(versions.last).to_have_text(re.compile("Fixes · 41 rows"))
    expect(versions.last).to_have_attribute("aria-current", "true")
    # a second click is heard while the first is still handled
    page.route("**/queue/join*", lambda route: (time.sleep(0.3), route.continue_()))
    versions.evaluate_all("all => { all[1].click(); setTimeout(() => all[0].click(), 100); }")
    page.wait_for_timeout(200)
    page.unroute("**/queue/join*")
    expect(versions.first).to_have_attribute("aria-current", "true")
    versions.last.click()
    expect(versions.last).to_have_attribute("aria-current", "true")
    expect(page.locator("#data-report")).to_contain_text("40 usable examples")


def move_the_limit(page):
    chart = page.locator("#data-lengths")
    expect(chart.locator("[data-lengths=chart]")).to_be_visible(timeout=60_000)
    expect(chart.locator("[data-lengths=totals]")).to_contain_text("learned tokens")
    expect(chart.locator("input")).to_have_value("896")  # the limit has followed the rows
    handle = chart.locator(".handle")
    handle.focus()
    page.keyboard.press("Home")
    expect(chart.locator("[data-lengths=said]")).to_contain_text("At 16 tokens, 40 rows (100%)")
    chart.locator("input").fill("256")
    expect(chart.locator("[data-lengths=said]")).to_contain_text("At 256 tokens")
    expect(handle).to_have_attribute("aria-valuenow", "256")
    chart.locator("[data-lengths=take]").click()
    expect(chart.locator("[data-lengths=problems]")).to_contain_text("longer than 256 tokens")
    chart.get_by_role("button", name="Show this row").first.click()
    expect(page.locator("#rows-line")).to_contain_text("Rows 1 to 1 of 1 matching")
    expect(page.locator("#data-preview button.pick")).to_have_text("31")
    go(page, "Model")
    expect(page.locator("#field-max_length input")).to_have_value("256")
    go(page, "Data")


def change_rows(page):
    page.locator("#data-preview button.pick").first.click()
    expect(page.locator("#token-view .tokens .cut").first).to_be_visible(timeout=60_000)
    page.locator("#row-card textarea").nth(1).fill("A short reply.")
    page.locator("#row-card [data-keep]").click()
    expect(page.locator("#data-changes")).to_contain_text("1 row edited, not saved yet")
    page.reload()
    expect(page.locator("#data-changes")).to_contain_text("1 row edited, not saved yet")
    page.locator("#row-go-to input, #row-go-to textarea").first.fill("31")
    page.keyboard.press("Enter")
    expect(page.locator("#data-preview tr.edited")).to_contain_text("A short reply.")
    page.locator("#data-preview button.pick", has_text=re.compile("^33$")).click()
    expect(page.locator("#row-card [data-edit]")).to_have_attribute("data-edit", "33")
    page.locator("#row-card [data-drop]").click()
    expect(page.locator("#data-preview tr.dropped")).to_have_count(1)
    page.locator("#save-changes").click()
    expect(page.locator("#data-report .versions button").last).to_contain_text("Edits · 40 rows")
    expect(page.locator("#data-changes .changes")).to_have_count(0)


def take_away(page):
    with page.expect_download() as download:
        page.locator("#data-report .downloads a").first.click()
    rows = download.value.path().read_text(encoding="utf-8").splitlines()
    assert len(rows) == 40 and "A short reply." in "".join(rows)


def test_the_data_room(page, orders):
    page.set_input_files("#data-upload input[type=file]", orders)
    expect(page.locator("#data-report")).to_contain_text("“ask” is the prompt and “reply” is the")
    choose_columns(page)
    clean(page)
    move_the_limit(page)
    change_rows(page)
    take_away(page)
    page.get_by_role("button", name="Held-out rows").click()
    page.locator("#held-out-show").click()
    expect(page.locator("#rows-line")).to_contain_text("matching, 40 in all")
    assert page.locator("main img:not(footer img), main script").count() == 0


@pytest.fixture
def tickets(tmp_path):
    """A support lead's export: odd headers, empty answers, duplicates, German rows, Latin-1."""
    lines = ["Ticket #;created (UTC);Betreff / Subject;Customer msg.;assg.;Our reply (final);CSAT?"]
    for n in range(40):
        ask, reply = f"Where is my parcel {n}, please?", f"Hello, parcel {n} comes tomorrow."
        if n % 5 == 0:
            ask, reply = f"Wo ist mein Paket {n}, bitte? Straße 3", f"Guten Tag, {n} kommt später."
        lines.append(f"T-{n};2024-03-01;Versand;{ask};AW;{'' if n % 13 == 3 else reply};5")
    lines += lines[2:4]
    file = tmp_path / "tickets.csv"
    file.write_bytes("\n".join(lines).encode("latin-1"))
    return file


def read_as_latin_1(page, file):
    page.set_input_files("#data-upload input[type=file]", file)
    notice = page.locator("#data-notice")
    expect(notice).to_contain_text("Straße 3")  # the preview of reading it so
    notice.get_by_role("button", name="Read as Western European (Latin-1)").click()
    expect(page.locator("#data-preview")).to_contain_text("Straße 3", timeout=60_000)


def use_the_guess(page):
    prompt, answer = (page.locator(f"#column-choice [data-role={side}]") for side in
                      ("prompt", "completion"))  # fmt: skip
    expect(prompt.locator("option:checked")).to_have_text("Customer msg.")
    expect(answer.locator("option:checked")).to_have_text("Our reply (final)")
    expect(page.locator("#data-report")).to_contain_text("This is a guess")
    answer.select_option("")
    expect(page.locator("#apply-columns")).to_be_disabled()
    expect(page.locator("#data-preview th select").nth(1)).to_have_value("")
    answer.select_option(label="Our reply (final)")
    expect(page.locator("#mapping-preview")).to_contain_text("Guten Tag, 0 kommt später.")
    page.locator("#apply-columns").click()
    expect(page.locator("#data-ready")).to_contain_text("examples for training", timeout=60_000)


def test_a_support_leads_csv_is_ready_to_start(page, tickets, tmp_path):
    read_as_latin_1(page, tickets)
    use_the_guess(page)
    page.locator("#make-cleaned").click()
    version = page.locator("#data-report .versions button").last
    expect(version).to_contain_text("Fixes · 37 rows", timeout=60_000)
    expect(page.locator("#data-report")).to_contain_text("37 usable examples")
    expect(page.locator("#data-statistics")).to_contain_text("Prompts: 29 English, 8 German.")
    top = {name: page.locator(name).bounding_box()["y"] for name in
           ("#data-ready", "#data-preview", "#data-statistics")}  # fmt: skip
    assert top["#data-ready"] < top["#data-preview"] < top["#data-statistics"]
    page.locator("#row-go-to input, #row-go-to textarea").first.fill("35")
    page.keyboard.press("Enter")
    expect(page.locator("#data-preview tr.chosen button.pick")).to_have_text("35")
    expect(page.locator("#data-preview tr.chosen")).to_be_in_viewport()
    expect(page.locator("#row-card h3")).to_have_text("Row 35")
    picture = tmp_path / "photo.png"
    picture.write_bytes(b"no table")
    page.set_input_files("#data-upload input[type=file]", picture)
    notice = page.locator("#data-notice")
    expect(notice).to_contain_text("“photo.png” is not a kind of file that can be read here.")
    expect(notice).to_contain_text("Still in use: “tickets.csv")
    page.locator("#next-to-model").click()
    expect(page.locator("#estimate")).to_be_visible()
    go(page, "Train")
    expect(page.locator("#start-training")).to_be_enabled()


def test_a_reading_is_found_again_and_can_be_cancelled(app, page, tmp_path):
    file = tmp_path / "long.csv"
    rows = "".join(f"What is {n} plus {n}?,It is {n + n}\n" for n in range(400_000))
    file.write_text("prompt,response\n" + rows)
    page.set_input_files("#data-upload input[type=file]", file)
    card = page.locator("#data-reading .reading")
    expect(card).to_contain_text("What is 0 plus 0?")
    page.reload()
    expect(card).to_contain_text("What is 0 plus 0?")
    second = page.context.new_page()
    second.goto(app.url)
    expect(second.locator("#data-reading .reading")).to_contain_text("long.csv")
    second.close()
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_be_hidden()
    expect(page.locator("#data-notice")).to_contain_text("cancelled")


def test_several_files_a_mix_and_a_refusal(page, tmp_path):
    for name in ("one", "two"):
        file = tmp_path / f"{name}.jsonl"
        lines = [json.dumps({"prompt": f"{name} {n}", "response": f"r {n}"}) for n in range(20)]
        file.write_text("\n".join(lines))
        upload(page, file)
    both = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    page.set_input_files("#data-upload input[type=file]", both)
    expect(page.locator("#data-report")).to_contain_text("40 usable examples")
    page.get_by_role("button", name="Stored datasets").click()
    stored = page.locator("#stored-datasets li")
    for name, weight in (("one.jsonl", "3"), ("two.jsonl", "1")):
        row = stored.filter(has=page.get_by_role("button", name=name, exact=True))
        row.locator("input").fill(weight)
    page.locator("#stored-datasets [data-mix]").click()
    expect(page.locator("#data-report h3").first).to_have_text("Mix")
    expect(page.locator("#data-report")).to_contain_text("27 usable examples")
    mix = stored.filter(has=page.get_by_role("button", name="Mix", exact=True))
    mix.get_by_role("button", name="Delete").click()
    mix.get_by_role("button", name="Confirm delete").click()
    expect(mix).to_have_count(0)
    expect(page.locator("#data-report")).to_contain_text("No data yet")


def test_with_data_nothing_is_wider_than_a_phone_or_hard_to_use(app, open_page):
    page = open_page(app.url, color_scheme="dark", **PHONE)
    page.locator("#data-sample label").first.click()
    expect(page.locator("#data-lengths [data-lengths=chart]")).to_be_visible(timeout=60_000)
    for name in ("Column roles", "Stored datasets", "Held-out rows"):
        page.get_by_role("button", name=name).click()
    page.locator("#data-preview button.pick").first.click()
    expect(page.locator("#row-card textarea").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    found = Axe().run(page, options=RULES).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


def test_the_settings_of_the_form_are_the_ones_of_the_chart(page):
    page.locator("#data-sample label").first.click()
    chart = page.locator("#data-lengths")
    expect(chart.locator("[data-lengths=chart]")).to_be_visible(timeout=60_000)
    go(page, "Model")
    fill_field(page, "max_length", "64")
    go(page, "Data")
    expect(chart.locator(".handle")).to_have_attribute("aria-valuenow", "64")
