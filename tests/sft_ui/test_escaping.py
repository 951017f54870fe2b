"""Texts of users and models are escaped everywhere on the page."""

from html.parser import HTMLParser

import gradio as gr
import pytest
from markupsafe import Markup

from sft_ui import alerts, markup
from sft_ui.chat.panes import pane
from sft_ui.data import report
from sft_ui.data.dataset_list import dataset_list
from sft_ui.data.reading.columns import example_preview, picker
from sft_ui.data.reading.readings import offer_button, preview_table
from sft_ui.data.report import problem_list
from sft_ui.data.rows import table
from sft_ui.data.rows.card import Changes, row_card
from sft_ui.data.rows.tokens import Packed, pack_strip
from sft_ui.layout import header
from sft_ui.runs.table import runs_table
from sft_ui.runs.view import Row
from sft_ui.token_card import kind_of, token_card
from sft_ui.train.tab import run_card
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import Problem, UserError
from trainer_backend.hardware import Hardware

PAYLOADS = {
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "drawing": "<svg/onload=alert(1)>",
    "frame": "<iframe srcdoc='<b>x</b>'></iframe>",
    "link": '<a href="javascript:alert(1)">x</a>',
    "double quote": '" onmouseover="alert(1)',
    "single quote": "' onmouseover='alert(1)",
    "no quote": "x onfocus=alert(1) autofocus",
    "end of a text box": "</textarea><b>x</b>",
    "end of a list": "</option></select><b>x</b>",
    "end of code": "</pre></div></section><b>x</b>",
    "end of a drawing": "</title></svg><b>x</b>",
    "comment": "<!-- x",
    "entity": "&lt;b&gt; &amp; &#60;b&#62;",
    "template of the browser": "${alert(1)} {{value}} `x`",
    "format of Python": "{} {0} {x.__class__} {{}}",
    "percent format": "%s %d %(x)s %%",
}


class Reader(HTMLParser):
    """Parsed HTML: tags with the names of their attributes, and every text."""

    def __init__(self, html):
        super().__init__()
        self.shape, self.texts = [], []
        self.feed(str(html))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.shape.append((tag, [name for name, _ in attrs]))
        self.texts += [value for _, value in attrs if value]

    def handle_endtag(self, tag):
        self.shape.append(tag)

    def handle_comment(self, data):
        self.shape.append("comment")

    def handle_data(self, data):
        self.texts.append(data)


def assert_same_shape(make, text):
    """The HTML of a text has the tags it has for a plain word, and contains the whole text."""
    plain, shown = Reader(make("word")), Reader(make(text))
    assert shown.shape == plain.shape
    assert any(text in one for one in shown.texts)


PLACES = {
    "header": lambda text: header(Hardware("cuda", text, 1, 8.0, 8.0, 1, True)),
    "unused GPU": lambda text: header(Hardware("cpu", "CPU", 1, 8.0, 8.0, 1, True, text)),
    "title of a card": lambda text: markup.card(text),
    "line": markup.line,
    "body that is no markup": lambda text: markup.card("x", text),
    "empty": lambda text: markup.empty(text, text),
    "fact": lambda text: markup.facts([(text, text)]),
    "folded": lambda text: markup.more(text, text),
    "warning": lambda text: markup.problem_card(Problem("warning", text, text, text)),
    "finding": lambda text: problem_list(
        [Problem("error", text, text, text, code=text, switches=("drop",))]
    ),
    "error": lambda text: markup.error_card(UserError(text, text, text)),
    "cell": lambda text: markup.plain_table(text, [text], [(text, [text])]),
    "run name": lambda text: markup.table(text, [text], [(text, text, [text])], text),
    "column": lambda text: picker(text, "prompt"),
    "file name": lambda text: report.version_line(
        [dict.fromkeys(("id", "what", "done"), text) | {"rows": 1, "here": True}] * 2
    ),
    "offer": lambda text: offer_button(text, {"encoding": text}),
    "preview of a file": lambda text: preview_table([(1, {text: text})]),
    "chat": lambda text: pane("tuned", [{"role": "assistant", "content": text}]),
    "thought": lambda text: pane(
        "tuned", [{"role": "assistant", "content": "", "reasoning": text}]
    ),
    "call": lambda text: pane(
        "tuned",
        [{"role": "assistant", "content": "", "calls": [{"name": text, "arguments": {}}]}],
    ),
    "picture": lambda text: pane("tuned", [{"role": "user", "content": text, "images": [text]}]),
    "message": lambda text: alerts.toast(UserError(text, text, text)).message,
    "message of the web API": lambda text: alerts.answer(UserError(text, text, text)).message,
}


@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.parametrize("place", PLACES)
def test_text_never_changes_the_shape_of_the_page(place, kind):
    text = PAYLOADS[kind]
    if "quote" in kind and place == "offer":
        text = text.replace('"', "'")  # JSON writes a backslash before a double quote
    assert_same_shape(PLACES[place], text)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_file_and_its_rows_never_change_the_shape_of_the_page(home, kind):
    def stored(text):
        row = {"prompt": text, "response": text, f"note {text}": text}
        dataset = create_from_rows(home, [row], name=text)
        rows, _ = dataset.page(0)
        changes = Changes(dataset.id).edited(1, {"prompt": text})
        return Markup().join(
            [
                report.report(dataset, 0, 0.1),
                table.rows_table(dataset, rows, 1, None, changes),
                row_card(dataset, 1, rows[0][1], changes),
                example_preview(dataset),
                dataset_list([dataset], ""),
            ]
        )

    assert_same_shape(stored, PAYLOADS[kind])


def test_a_warning_is_text_too(monkeypatch, hostile):
    said = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: said.append(message))
    alerts.tell(UserError(hostile, hostile, hostile))
    assert_is_text(said[0])
    assert said[0].count("<br>") == 2 and type(said[0]) is str


def test_a_script_reads_quotes_as_they_are():
    message = alerts.answer(UserError('"a" isn\'t <b>', "x", "y")).message
    assert message == '"a" isn\'t &lt;b&gt;\nx\ny'


def test_a_component_of_the_page_takes_markup_as_it_is(hostile):
    shown = gr.HTML(markup.line(hostile)).get_config()["value"]
    assert shown == markup.line(hostile)
    assert_is_text(pack_strip(Packed([(1, 4), (2, 4)], 8), 1) + markup.line(hostile))


def pieces(text):
    problem = Problem("error", text, text, text, rows=(1, 2), count=2)
    return [
        markup.card(text, markup.line(text)),
        markup.empty(text, text),
        markup.facts([(text, text)]),
        markup.chips([text]),
        markup.problem_card(problem),
        markup.error_card(UserError(text, text, text)),
        markup.table(text, [text], [(text, text, [text])], text),
        markup.plain_table(text, [text], [(1, [text])]),
        problem_list([problem]),
        pane("base", [{"role": "user", "content": text}, {"role": "assistant", "content": text}]),
        header(Hardware("cuda", text, 1, 8.0, 8.0, 1, True)),
        header(Hardware("cpu", "CPU", 1, 8.0, 8.0, 1, True, text)),
    ]


def assert_is_text(html):
    assert "<script" not in html and "<img" not in html
    assert "&lt;script&gt;" in html


def test_every_piece_escapes_its_text(hostile):
    for html in pieces(hostile):
        assert_is_text(html)


def test_a_dataset_is_shown_as_text(home, hostile):
    dataset = create_from_rows(home, [{"prompt": hostile, "response": hostile}], name=hostile)
    rows, _ = dataset.page(0)
    changes = Changes(dataset.id).edited(1, {"prompt": hostile + " edited"})
    assert_is_text(report.report(dataset, 0, 0.1, dataset.lineage() * 2))
    assert_is_text(table.rows_table(dataset, rows, None, None, changes))
    assert_is_text(row_card(dataset, 1, rows[0][1], changes))
    assert_is_text(example_preview(dataset))
    assert_is_text(dataset_list([dataset], ""))


def test_columns_named_like_markup_are_text(home, hostile):
    dataset = create_from_rows(home, [{hostile: "a", "other": "b"}], name="odd")
    rows, _ = dataset.page(0)
    assert_is_text(table.rows_table(dataset, rows, None))
    assert_is_text(row_card(dataset, 1, rows[0][1], Changes(dataset.id)))
    assert_is_text(report.report(dataset, 0, 0.1))


def test_a_run_is_shown_as_text(run, hostile):
    run.rename(hostile[:110])
    assert_is_text(run_card(run))
    assert_is_text(runs_table([Row(run.summary())], ""))


def test_tokens_are_text_with_visible_blanks(hostile):
    tokens = [{"text": hostile + "a b\n<", "id": 1, "learned": True, "cut": False}]
    view = {
        "tokens": tokens,
        "num_tokens": 1,
        "num_learned": 1,
        "max_length": 8,
        "notes": [hostile],
    }
    card = token_card(view, 1, hostile)
    assert_is_text(card)
    assert "a·b↵\n&lt;" in card


@pytest.mark.parametrize(
    "token, kind",
    [
        ({"learned": True, "cut": False}, "learned"),
        ({"learned": False, "cut": False}, "context"),
        ({"learned": True, "cut": True}, "cut"),
    ],
)
def test_a_token_has_one_kind(token, kind):
    assert kind_of(token) == kind


def test_a_cell_is_cut_to_a_readable_length():
    long, empty = (markup.plain_table("", [], [(1, [text])]) for text in ("x" * 5000, None))
    assert "x" * 300 + "…" in long and "x" * 301 not in long and "empty" in empty
