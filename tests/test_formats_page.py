"""The page of formats is what its generator makes of the tests' tables."""

from tests.formats_page import COMMAND, PAGE, page
from tests.trainer_backend.data.formats.dialects import DIALECTS
from tests.trainer_backend.data.formats.shapes import SHAPES


def test_the_page_of_formats_is_up_to_date():
    made = page()
    assert made == PAGE.read_text(encoding="utf-8"), f"run `{COMMAND}`"
    headings = [line.removeprefix("#### ") for line in made.splitlines() if line.startswith("####")]
    assert {one.name for one in (*DIALECTS, *SHAPES)} <= set(headings), "each format is shown"
