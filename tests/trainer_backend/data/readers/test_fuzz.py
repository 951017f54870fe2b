"""Fuzzing: damaged files and random rows raise UserError or nothing."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import OPTIONS, csv_text, encoded, seeds, understand, variant
from trainer_backend.data.checks.checker import check_examples
from trainer_backend.data.formats.detection import detect_format
from trainer_backend.data.formats.example import to_example
from trainer_backend.data.formats.mapping import FORMATS, ROLE_NAMES, ColumnMapping, check_mapping
from trainer_backend.data.json_values import BadJSON, cell_text, parse, to_json
from trainer_backend.data.readers.files import open_rows, read_rows
from trainer_backend.data.readers.options import OFFERED, ReadOptions
from trainer_backend.errors import RowError, UserError

QUICK = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,  # the same rows on every machine; benchmarks/fuzz.py looks for new ones
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SEEDS = seeds()
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
WORDS = st.sampled_from(
    "prompt response messages conversations role from value content user assistant system tool "
    "train weight tool_calls function name arguments type text image image_url images url".split()
)
SCALAR = st.none() | st.booleans() | st.integers() | TEXT | WORDS
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | TEXT, inner, max_size=5),
    max_leaves=12,
)
ROW = st.dictionaries(WORDS | TEXT, VALUE, max_size=5)
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", 5, None]), "content": VALUE},
    optional={"tool_calls": VALUE, "train": SCALAR, "weight": SCALAR, "reasoning_content": TEXT},
)


@pytest.mark.parametrize(("name", "data"), SEEDS, ids=[name for name, _ in SEEDS])
def test_damaged_files_are_read_or_refused(tmp_path, name, data):
    chance = random.Random(name)
    path = tmp_path / name
    path.write_bytes(data)
    understand(path, ReadOptions())
    refused = 0
    for _ in range(60):
        path.write_bytes(variant(data, chance))
        try:
            understand(path, chance.choice(OPTIONS))
        except UserError as error:
            refused += 1
            assert error.what and name in error.where and error.fix
            assert set(error.offer or ()) <= {*OFFERED, "preview", "alternatives"}
    assert refused, "some damage is always found"


@pytest.mark.parametrize(("name", "data"), encoded(), ids=[name for name, _ in encoded()])
def test_damaged_files_in_any_encoding_are_read_or_refused(tmp_path, name, data):
    chance = random.Random(name)
    path = tmp_path / name
    for _ in range(8):
        path.write_bytes(variant(data, chance))
        for options in OPTIONS[:2]:
            try:
                understand(path, options)
            except UserError as error:
                json.dumps(error.to_dict(), ensure_ascii=False).encode()


@QUICK
@given(rows=st.lists(ROW, min_size=1, max_size=6))
def test_any_rows_are_converted_or_refused(rows):
    found = detect_format(rows)
    assert found.sentence and found.columns == list(dict.fromkeys(n for row in rows for n in row))
    if found.mapping is None:
        return
    check_mapping(found.mapping, found.columns, "x")
    _use(rows, found.mapping)


@QUICK
@given(turns=st.lists(TURN, max_size=5), images=VALUE)
def test_any_conversation_is_converted_or_refused(turns, images):
    mapping = ColumnMapping("messages", {"messages": "m", "images": "images"})
    _use([{"m": turns, "images": images}, {"m": json.dumps(turns)}], mapping)


@QUICK
@given(
    row=ROW,
    format=st.sampled_from([*FORMATS, "other"]),
    roles=st.dictionaries(st.sampled_from(ROLE_NAMES), WORDS, max_size=5),
)
def test_any_choice_of_columns_is_used_or_refused(row, format, roles):
    mapping = ColumnMapping(format, roles)
    try:
        check_mapping(mapping, list(row), "x")
    except UserError as error:
        assert error.what and error.fix
        return
    _use([row], mapping)


def _use(rows: list[dict], mapping: ColumnMapping) -> None:
    examples = []
    for number, row in enumerate(rows, start=1):
        try:
            examples.append(to_example(number, row, mapping, "system"))
        except RowError as error:
            assert error.what and error.fix
    for example in examples:
        assert (example.messages is None) != (example.text is None)
        to_json([example.messages, example.tools])
    check_examples(examples, "x")


@QUICK
@given(texts=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5),
       mark=st.sampled_from(",;\t|"))  # fmt: skip
def test_any_text_comes_back_from_csv(tmp_path, texts, mark):
    quoted = [[cell.replace('"', '""') for cell in row] for row in texts]
    body = "".join(f'"{a}"{mark}"{b}"\n' for a, b in quoted)
    path = tmp_path / "a.csv"
    path.write_bytes(f"p{mark}r\n{body}".encode())
    rows = [(row["p"], row["r"]) for _, row in read_rows(path, options=ReadOptions(delimiter=mark))]
    assert rows == texts


@QUICK
@given(rows=st.lists(ROW.filter(bool), min_size=2, max_size=4), indent=st.sampled_from([None, 2]))
def test_any_row_comes_back_from_json(tmp_path, rows, indent):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=indent), encoding="utf-8")
    assert [row for _, row in read_rows(path)] == rows
    path = tmp_path / "a.jsonl"
    path.write_text("".join(to_json(row) + "\n" for row in rows), encoding="utf-8")
    assert [row for _, row in read_rows(path)] == rows


@QUICK
@given(st.text(max_size=40) | VALUE.map(json.dumps))
def test_any_text_is_json_or_not(text):
    try:
        value = parse(text)
    except BadJSON as error:
        assert error.what and error.fix
    else:
        assert parse(to_json(value)) == value and isinstance(cell_text(value), str)


@QUICK
@given(cut=st.integers(0, 200), junk=st.binary(min_size=1, max_size=6))
def test_skipping_damage_never_shifts_a_row(tmp_path, cut, junk):
    data = csv_text(",").encode()
    whole = [tuple(row.values()) for row in _rows(tmp_path, data, False)]
    kept = _rows(tmp_path, data[:cut] + junk + data[cut:], True)
    assert all(len(row) == 2 for row in kept) or cut < 16, "a header may change its columns"
    untouched = [tuple(row.values()) for row in kept if tuple(row.values()) in whole]
    assert untouched == [row for row in whole if row in untouched]


def _rows(folder, data: bytes, skip: bool) -> list[dict]:
    path = folder / "a.csv"
    path.write_bytes(data)
    try:
        return [row for _, row in open_rows(path, options=ReadOptions(skip_damaged=skip))]
    except UserError:
        return []
