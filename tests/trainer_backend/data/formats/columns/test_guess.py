"""Prompt and answer guessed from names and cells: right, or asked; never wrong."""

from collections import Counter

import pytest

from tests.trainer_backend.data.formats.columns.tables import DATES, EN, EN_A, TABLES, Table, ids
from trainer_backend.data.formats.columns.guess import guess_pair
from trainer_backend.data.formats.columns.kinds import kind_of
from trainer_backend.data.formats.detection import Detection, detect_format


def pair_of(found: Detection) -> tuple[str, str] | None:
    """The preselected prompt and answer."""
    roles = found.mapping.roles if found.mapping else {}
    return (roles["prompt"], roles["completion"]) if "prompt" in roles else None


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_guess_is_right_or_is_not_made(table):
    rows = table.rows()
    guess = guess_pair(rows, list(table.columns))
    assert (guess and tuple(guess.roles.values())) == table.right
    assert pair_of(detect_format(rows)) == table.right


def test_most_tables_with_an_answer_are_guessed():
    counts = Counter(
        "right" if pair_of(detect_format(table.rows())) else "asked"
        for table in TABLES
        if table.right
    )
    assert len(TABLES) > 100 and counts == {"right": 75}


def test_a_guess_says_what_it_is_and_waits_for_the_user():
    table = next(one for one in TABLES if one.name == "support export, odd headers")
    found = detect_format(table.rows())
    assert not found.sure and found.code == "columns_unclear"
    assert "“Customer msg.” is the prompt and “Our reply (final)” is the answer" in found.sentence
    assert "This is a guess" in found.sentence and "“assg.”" in found.sentence
    assert "--columns 'prompt=Customer msg.,completion=Our reply (final)'" in found.advice


def test_without_a_guess_nothing_is_preselected():
    table = Table("numbers and days", {"Ticket #": ids(), "created": DATES, "x": ids("{}")}, None)
    found = detect_format(table.rows())
    assert found.mapping is None and not found.sure
    assert "choose which column is the prompt and which is the answer" in found.sentence


def test_usual_names_of_ids_give_way_to_the_text_beside_them():
    table = Table("", {"user": ids("u_{}"), "customer message": EN, "response": EN_A}, None)
    assert pair_of(detect_format(table.rows())) == ("customer message", "response")
    alone = Table("", {"user": ids("u_{}"), "response": EN_A}, None)
    assert detect_format(alone.rows()).sure, "there is nothing better"


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["2024-03-01", "01.03.24", "March 3, 2024", "2024-03-01T10:00:00+01:00"], "dates"),
        (["3 Mar 2024 10:15", "10:15 PM", "2024年3月1日", "2024/03/01 09:15"], "dates"),
        (["12", "-3.5", "1,200 €", "$4.99", "20 %"], "numbers"),
        (["T-1000", "#12", "a3f9-77", "SUP-1"], "ids"),
        (["a@b.org", "Anna <anna@b.co.uk>"], "e-mail addresses"),
        (["https://a.org/x", "www.b.org"], "links"),
        (["yes", "no", "no", "yes", "no"], "classes"),
        (["yes", "no"], "phrases"),
        (["Anna Weber", "Ben Ito"], "phrases"),
        (["Where is my parcel now?", "It never came to me."], "prose"),
        (["我的包裹在哪里？", "一直没有到货呢"], "prose"),
        (["", None, " "], "nothing"),
        ([["a"], {"b": 1}], "lists or objects"),
        (["In 2024 I paid 12 times", "7 of 9 are broken, why?"], "prose"),
    ],
)
def test_kinds_of_columns(cells, kind):
    assert kind_of([{"x": cell} for cell in cells], "x") == kind
