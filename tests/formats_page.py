"""Writes docs/formats.md from the tests' tables of formats: `python -m tests.formats_page`.

What is said about a format is what the product says of the example, not what a table says.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.trainer_backend.data.formats import dialects, shapes
from tests.trainer_backend.data.readers import written
from trainer_backend.cli.offers import offer_lines
from trainer_backend.data.checks.checker import check_examples
from trainer_backend.data.formats import ColumnMapping, detect_format, to_example
from trainer_backend.data.formats.columns.choice import mapping_of, parse_columns
from trainer_backend.data.readers.encodings.names import encoding_name
from trainer_backend.data.readers.files import open_rows
from trainer_backend.data.store import create_dataset
from trainer_backend.errors import RowError, UserError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
COMMAND = "python -m tests.formats_page"
WIDTH = 100  # characters of a line in an example
OF_ONE_ROW = ("one_row", "few_rows", "short_answers", "same_answer", "label_leak")
INTRO = f"""# Formats

Which files SFT Studio reads, what a row of each becomes, and what is said about it. **To find
yours, search this page for a key, a column or a word of your file** (`from`, `chosen`, `gb18030`,
`sep=`).

Every example is a test: it is read as shown here. `python -m trainer_backend check FILE` says the
same about your own file before anything is trained. In the examples *You* and *Model* stand for
messages of the user and of the assistant; the model learns to write the Model's messages, unless
they are marked *not learned*. A ⏎ is a line break. Lines that begin with a bar are what SFT Studio
says. Where a meaning is not certain it does not guess: it says what it saw, and you decide on the
page, or with the option that it names.

This page is made by `{COMMAND}`.
"""
FILES = (
    ("JSON", "JSON", "Read as one object a line, as a list, or as what the note says."),
    ("CSV and workbooks", "TABLES", "The first row is the header, unless a note says otherwise."),
)
COLUMNS = (
    ("Prompt and answer in columns", "PAIR", "One row is one exchange."),
    ("Chats with further columns", "CHATS", ""),
    ("Preference data", "PREFERENCE",
     "Rejected answers are not trained: `--chosen`, or one click, trains on the chosen ones."),
    ("One message in each row", "SINGLE", ""),
    ("Other columns", "OTHER", ""),
)  # fmt: skip
MESSAGES = (
    ("Plain turns", "PLAIN", ""),
    ("Content in parts", "PARTS", "Text in blocks, reasoning, images."),
    ("Calls of functions", "CALLS", "Calls, their arguments and their results."),
    ("Lists of tools", "TOOL_FORMS", ""),
    ("What is learned", "MARKS", "Marks on messages that say whether they are learned."),
    ("Not certain", "ASKED", "These rows are left out, and the reason is named."),
)
ROLES = {"user": "You", "assistant": "Model", "system": "System", "tool": "Result"}


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        files = list(_sections(FILES, written, lambda one: _file_entry(one, at)))
        columns = list(_sections(COLUMNS, shapes, lambda one: _shape_entry(one, at)))
        messages = list(_sections(MESSAGES, dialects, _dialect_entry))
    parts = [
        INTRO, _contents(), "## Files", *files, _encodings(), _other_files(),
        "## Columns", "Which column is the prompt, the answer, the chat. `--columns` and the "
        "pickers on the page decide it where the names do not.", *columns,
        "## Messages", "How the turns of a chat are written inside its column.", *messages,
    ]  # fmt: skip
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _contents() -> str:
    lines = []
    for name, groups in (("Files", FILES), ("Columns", COLUMNS), ("Messages", MESSAGES)):
        titles = [title for title, _, _ in groups]
        titles += ["Encodings", "Other files"] if name == "Files" else []
        links = " · ".join(f"[{title}](#{_anchor(title)})" for title in titles)
        lines.append(f"- **[{name}](#{_anchor(name)})**: {links}")
    return "\n".join(lines)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _sections(groups: tuple, module: Any, entry: Callable[[Any], str]) -> Iterator[str]:
    for title, name, what in groups:
        yield f"### {title}"
        if what:
            yield what
        yield from (entry(one) for one in getattr(module, name))


def _entry(name: str, keys: str, example: str, becomes: str, said: Iterable[str]) -> str:
    """One format: heading, keys, the example, what it becomes, what is said."""
    parts = [f"#### {name}", _keys(keys), example, becomes]
    lines = [f"> {' '.join(line.split())}" for line in said]
    return "\n\n".join(part for part in [*parts, "\n>\n".join(lines)] if part)


def _keys(keys: str) -> str:
    return " ".join(dict.fromkeys(f"`{key}`" for key in keys.split()))


def _code(text: str, language: str = "") -> str:
    return f"```{language}\n{text}\n```"


def _json(value: Any) -> str:
    """A row as JSON, on one line if it is short, else one item a line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) <= WIDTH or not isinstance(value, dict | list) or not value:
        return line
    is_object = isinstance(value, dict)
    items = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    lines = []
    for key, item in items:
        text = _json(item).replace("\n", "\n ")
        lines.append(f"{json.dumps(key, ensure_ascii=False)}: {text}" if is_object else text)
    inner = ",\n ".join(lines)
    return f"{{{inner}}}" if is_object else f"[{inner}]"


def _talk(messages: Iterable[dict]) -> str:
    return "\n".join(line for message in messages for line in _turn(message))


def _turn(message: dict) -> Iterator[str]:
    """A message as lines: who speaks, and what."""
    who = ROLES.get(message["role"], message["role"])
    who += " (not learned)" if message.get("train") is False else ""
    if message.get("reasoning_content"):
        yield f"{who}, thinking: {_one_line(message['reasoning_content'])}"
    if message.get("content") or not {"tool_calls", "reasoning_content"} & message.keys():
        yield f"{who}: {_one_line(message.get('content') or '')}"
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = json.dumps(function["arguments"], ensure_ascii=False)
        yield f"{who}, calls {function['name']}({arguments})"


def _one_line(text: Any) -> str:
    shown = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, default=str)
    return shown.replace("\n", "⏎")


def _file_entry(case: Any, folder: Path) -> str:
    path = folder / case.file
    path.write_bytes(case.content())
    if case.cells:
        example = _code("\n".join(" | ".join(map(str, line)) for line in case.cells))
    elif case.file.endswith("json"):
        example = _code(case.text, "json")
    else:
        example = _code(case.text.rstrip("\n").replace("\t", "→"))
    said, rows = _read(path)
    becomes = [_json(row) for row in rows[:2]]
    shown = f"Rows:\n\n{_code(chr(10).join(becomes), 'json')}" if becomes else ""
    return _entry(case.name, case.keys, example, shown, said)


def _read(path: Path) -> tuple[list[str], list[dict]]:
    """(what is said of a file, its rows)."""
    try:
        reader = open_rows(path)
        rows = [row for _, row in reader]
    except UserError as error:
        place = error.where.removeprefix(path.name).strip(", ")
        what = f"{error.what} ({place}) {error.fix}" if place else f"{error.what} {error.fix}"
        return [what, *map(_option, offer_lines(error))], []
    return reader.notes, rows


def _option(line: str) -> str:
    """A way that the terminal offers."""
    option, _, what = line.strip().removeprefix("try:").strip().partition("  ")
    return f"Try: `{option}` {what}"


def _shape_entry(shape: Any, folder: Path) -> str:
    path = folder / "data.json"
    path.write_text(json.dumps(shape.rows), encoding="utf-8")
    stored = create_dataset(folder / "home", path)
    said = [stored.sentence, *stored.notes]
    said += [f"{one.what} {one.fix}" for one in stored.problems if one.code not in OF_ONE_ROW]
    said = [line for line in dict.fromkeys(said) if line]
    if shape.asks:
        said = said[1:] if said[0] in said[1] else said
        mapping = mapping_of(parse_columns([shape.columns]), "x") if shape.columns else None
        if mapping or shape.chosen:
            stored = create_dataset(folder / "home", path, mapping=mapping, chosen=shape.chosen)
    option = f"--columns {shape.columns}" if shape.columns else "--chosen" if shape.chosen else ""
    becomes = _becomes(list(stored.examples()))
    with_option = f"With `{option}`:" if option else ""
    return _entry(
        shape.name, shape.keys, _code("\n".join(map(_json, shape.rows)), "json"),
        f"{with_option}\n\n{becomes}".strip(), said,
    )  # fmt: skip


def _becomes(examples: list) -> str:
    talks = [one.text if one.messages is None else _talk(one.messages) for one in examples]
    return _code("\n\n".join(talks)) if talks else ""


def _dialect_entry(dialect: Any) -> str:
    if dialect.columns:
        mapping: ColumnMapping | None = ColumnMapping("messages", dialect.columns)
    else:
        mapping = detect_format([dialect.row]).mapping
    assert mapping is not None
    try:
        example = to_example(1, dialect.row, mapping)
    except RowError as error:
        becomes, said = "", [f"{error.what} {error.fix}"]
    else:
        codes = {note.code for note in example.notes}
        found = [one for one in check_examples([example], "x") if one.code in codes]
        said = [f"{one.what} {one.fix}" for one in found]
        becomes = _code(_talk(example.messages) + _tools(example.tools))
    if dialect.columns:
        options = ",".join(f"{role}={column}" for role, column in dialect.columns.items())
        becomes = f"With `--columns {options}`:\n\n{becomes}" if becomes else becomes
    return _entry(dialect.name, dialect.keys, _code(_json(dialect.row), "json"), becomes, said)


def _tools(tools: Any) -> str:
    names = [tool["function"]["name"] for tool in tools or ()]
    return f"\nTools: {', '.join(names)}" if names else ""


def _encodings() -> str:
    """The table of encodings that are found and offered."""
    lines = [
        "### Encodings",
        "UTF-8, UTF-16 and UTF-32 are read at once, with a byte order mark or without. "
        "The encoding of any other file is found by its content and offered by name with a line "
        "of the file, the likeliest first: one click on the page, an option of the command line. "
        "`--encoding` takes further ones. A UTF-8 file with a broken byte is still a UTF-8 file: "
        "the place is named, and the row can be left out.",
    ]
    table = ["| Language | Offered | Option |", "|---|---|---|"]
    for case in written.OFFERED:
        name = encoding_name(case.encoding)
        table.append(f"| {case.name} | {name} | `--encoding {case.encoding}` |")
    return "\n\n".join([*lines, "\n".join(table)])


OTHERS = (
    ("Parquet", "`.parquet`", "its rows; numbers, dates and lists as JSON has them"),
    ("Arrow, Feather", "`.arrow` `.feather`", "its rows"),
    ("Text, Markdown", "`.txt` `.md`", "pieces of up to 4,000 characters, cut at paragraphs"),
    ("Zip, gzip", "`.zip` `.gz`", "the tables inside, read as one, with the images rows name"),
    ("Several files", "", "read as one table in the order given; different columns are named"),
    ("Hub datasets", "`owner/name`", "the rows of one split"),
    ("OpenDocument", "`.ods`", "the rows of one sheet, as a workbook's"),
    ("Old Excel, Numbers", "`.xls` `.numbers`", "not read: save as `.xlsx` or CSV"),
)  # fmt: skip


def _other_files() -> str:
    rows = [f"| {' | '.join(line)} |" for line in OTHERS]
    return "\n".join(["### Other files\n", "| File | Keys | Becomes |", "|---|---|---|", *rows])


if __name__ == "__main__":
    main()
