"""Which row of a table names the columns, where titles, blank rows and notes stand around it.

A row other than the first is taken only when it is certain, and a note says so; where it is not,
an error about the rows offers it. Cells are texts here, of a sheet or of delimited text.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from trainer_backend.data.json_values import MAX_COLUMNS
from trainer_backend.errors import UserError

SAMPLE_ROWS = 20  # looked at to find the header
MAX_NAME, MAX_WORDS = 40, 5  # of a cell that may be a column's name: characters, words
MAX_HELD = 50  # rows below a blank row that may be notes
KNOWN_NAMES = frozenset(
    "prompt completion response instruction input output question answer query context system "
    "messages conversations conversation text content chosen rejected label user assistant reply "
    "target source title id category topic language frage antwort pregunta respuesta pergunta "
    "resposta domanda risposta réponse reponse vraag antwoord вопрос ответ 问题 問題 答案 回答 "
    "回复 質問 질문 답변".split()
)
Row = tuple[int, list[str]]  # (row of the sheet or line of the file, cells)


@dataclass(frozen=True)
class Header:
    """The column names, and the row they stand in: data begins below it."""

    columns: list[str]
    row: int
    note: str = ""
    instead: int | None = None  # the row that may be the header, if the rows do not fit this one


def find_header(sample: list[Row], wanted: int | None, where: str, unit: str) -> Header:
    """The header among the first rows; `unit` is "row" or "line". Blank rows do not count.

    Raises UserError for too many columns or repeated names, and if the wanted row is not there.
    """
    sample = [row for row in sample if _filled(row[1])] or sample
    at = _index_of(sample, wanted, where, unit) if wanted is not None else _likely(sample)
    instead = None
    if at is None:
        at, instead = 0, _possible(sample)
    number, cells = sample[at]
    cells = _with_row_names(cells, sample[at + 1 :])
    note = _above(sample[:at], number, unit)
    if len(cells) > len(sample[at][1]):
        note += " " * bool(note) + (
            "The rows have one cell more than the header: the first one, a number, is “column 1”."
        )
    if (groups := _groups(sample, at)) is not None:
        cells = groups
        note = f"The header is {unit}s {sample[at - 1][0]:,} and {number:,} together."
    columns = check_header(cells, f"{where} {number}", instead or _possible(sample[at:]))
    return Header(columns, number, note, instead)


def _index_of(sample: list[Row], wanted: int, where: str, unit: str) -> int:
    for at, (number, _) in enumerate(sample):
        if number == wanted:
            return at
    names = ", ".join(f"{number:,}" for number, _ in sample[:6])
    what = f"{unit.capitalize()} {wanted:,} holds no column names."
    fix = f"Choose one of the first {unit}s that are not empty: {names}."
    raise UserError(what, f"{where} {wanted}", fix)


def _likely(sample: list[Row]) -> int | None:
    """The row below titles that is certainly the header; None for the first row, or if unclear."""
    first = sample[0][1]
    if _is_group_header(sample):
        return 1
    for at, (number, cells) in enumerate(sample[1:10], start=1):
        if not _are_names(cells) or _filled(cells) < max(2, _usual_width(sample[at:])):
            continue
        above = [row for _, row in sample[:at]]
        if any(_filled(row) >= _filled(cells) for row in above):
            return None
        known = _known(cells) and not any(map(_known, above))
        gap = number > sample[at - 1][0] + 1
        titles = all(_filled(row) == 1 for row in above)
        if known or (titles and (gap or at > 1 or _is_title(first))):
            return at
    return None


def _is_group_header(sample: list[Row]) -> bool:
    """Whether the first row names groups of columns, and the second the columns in each group."""
    if len(sample) < 3:
        return False
    groups, names = sample[0][1], [cell.strip() for cell in sample[1][1]]
    repeated = len(set(names)) <= len(names) / 2 and all(names)
    short = all(len(name) <= MAX_NAME and len(name.split()) <= MAX_WORDS for name in names)
    gaps = 1 < _filled(groups) < len(names)
    return (
        repeated and short and gaps and bool(groups[0].strip()) and _groups(sample, 1) is not None
    )


def _possible(sample: list[Row]) -> int | None:
    """A later row that may be the header, where the rows do not fit the first one."""
    if not sample:
        return None
    width = _usual_width(sample)
    for number, cells in sample[1:10]:
        if _are_names(cells, strict=False) and _filled(cells) == width > _filled(sample[0][1]):
            return number
    return None


def _filled(cells: list[str]) -> int:
    return sum(bool(cell.strip()) for cell in cells)


def _usual_width(sample: list[Row]) -> int:
    """The most frequent number of filled cells; the larger one of two as frequent."""
    counts = Counter(_filled(cells) for _, cells in sample)
    return max(counts, key=lambda width: (counts[width], width), default=0)


def _are_names(cells: list[str], *, strict: bool = True) -> bool:
    """Whether all cells are short, different texts, as names of columns are."""
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names) and strict:
        return _known(cells)
    return all(
        name
        and len(name) <= MAX_NAME
        and len(name.split()) <= MAX_WORDS
        and not name.replace(".", "").replace(",", "").isdigit()
        and name[-1] not in ".?!。？！"
        for name in names
    )


def _known(cells: Iterable[str]) -> bool:
    return any(cell.strip().casefold() in KNOWN_NAMES for cell in cells)


def _is_title(cells: list[str]) -> bool:
    """Whether a row with one cell is a title rather than the name of a column."""
    text = next(cell.strip() for cell in cells if cell.strip())
    return (" " in text or len(text) > 20) and not _known([text])


def _above(rows: list[Row], number: int, unit: str) -> str:
    if not rows:
        return ""
    numbers = [one for one, _ in rows]
    first = _first_text(rows[0][1])
    which = f"{unit.capitalize()} {numbers[0]:,} stands above it and is not read"
    if len(rows) > 1:
        last = f"{numbers[0]:,} to {numbers[-1]:,}"
        which = f"{unit.capitalize()}s {last} stand above it and are not read"
    return f"The header is {unit} {number:,}. {which}: “{first}”."


def _first_text(cells: list[str]) -> str:
    """The first filled cell, to be shown; bytes that were not decoded become question marks."""
    text = next(cell.strip() for cell in cells if cell.strip())
    return text[:60].encode("utf-8", "replace").decode()


def _groups(sample: list[Row], at: int) -> list[str] | None:
    """The names of a header of two rows: “Question en”, where the second row repeats its names."""
    cells = [cell.strip() for cell in sample[at][1]]
    if not at or len(set(cells)) == len(cells):
        return None
    groups: list[str] = []
    for cell in sample[at - 1][1] + [""] * len(cells):
        groups.append(cell.strip() or (groups[-1] if groups else ""))
    joined = [f"{group} {name}".strip() for group, name in zip(groups, cells, strict=False)]
    return joined if len(set(joined)) == len(joined) else None


def _with_row_names(cells: list[str], rows: list[Row]) -> list[str]:
    """The header with a name in front, if every row has one cell more, a number (as R writes)."""
    longer = [row for _, row in rows if len(row) == len(cells) + 1]
    if len(longer) > 1 and len(longer) == len(rows) and all(row[0].isdigit() for row in longer):
        return ["", *cells]
    return cells


def check_header(header: list[str], where: str, instead: int | None = None) -> list[str]:
    """The column names, unnamed ones as “column 3”. Raises UserError: too many, or repeated."""
    if len(header) > MAX_COLUMNS:
        raise UserError(
            f"The header has {len(header):,} columns, more than {MAX_COLUMNS:,}.",
            where,
            "Keep only the columns that matter.",
        )
    columns = [name.strip("\ufeff \t") or f"column {at}" for at, name in enumerate(header, start=1)]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        places = [str(at) for at, name in enumerate(columns, start=1) if name == twice]
        raise UserError(
            f"Two columns have the same name “{_first_text([twice])}”.",
            f"{where}, columns {' and '.join(places[:4])}",
            "Rename one of them in the header.",
            offer={"header_row": instead} if instead else None,
        )
    return columns


def uneven(found: int, width: int) -> str:
    """The sentence for a row with `found` cells under a header of `width`."""
    return f"The row has {found:,} column{'s' * (found != 1)}, the header has {width:,}."


def sampled(rows: Iterator[Row]) -> list[Row]:
    """The first rows, for find_header."""
    return list(islice(rows, SAMPLE_ROWS))


class Below:
    """Keeps back rows of one cell below a blank row: notes, if no row of the table follows.

    A blank row is a gap in the numbers of a sheet's rows. Among lines, whose numbers jump where a
    text goes over several of them, it is a row without cells.
    """

    def __init__(self, width: int, unit: str):
        self.width, self.unit, self.last = width, unit, 0
        self.held: list[Row] = []

    def passed(self, row: Row) -> list[Row]:
        """The rows that are now known to be rows of the table."""
        number, cells = row
        blank_rows = self.unit == "row" and number > self.last + 1
        apart, filled = bool(self.held) or blank_rows, _filled(cells)
        if self.last and self.width > 1 and (not cells or (filled == 1 and apart)):
            self.held.append(row)
            if len(self.held) < MAX_HELD:
                return []
            rows, self.held = self.held, []
        else:
            rows, self.held = [*self.held, row], []
        self.last = number
        return [one for one in rows if one[1]]

    def note(self) -> str:
        """A sentence on the rows that were kept back to the end; "" if none was."""
        held = [row for row in self.held if _filled(row[1])]
        if not held:
            return ""
        text = _first_text(held[0][1])
        numbers = [number for number, _ in held]
        which = f"{self.unit.capitalize()} {numbers[0]:,} stands below the table and is not read"
        if len(numbers) > 1:
            last = f"{numbers[0]:,} to {numbers[-1]:,}"
            which = f"{self.unit.capitalize()}s {last} stand below the table and are not read"
        return f"{which}: “{text}”."
