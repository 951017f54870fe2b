"""Ways in which files are written, and the rows they give: data for tests and docs."""

import io
import json
from dataclasses import dataclass, field
from typing import Any

import openpyxl

Row = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """One way to write a file.

    `keys` are the words a person would search for; `text` is what the file holds, in `encoding`, or
    `cells` what a sheet holds. `rows` are what it gives. `said` are words of the notes. A file that
    is refused as it is has `fault`, words of the error; `offer` is what the error offers, the best
    way first, and `rows` is what that way gives (none: correct the file).
    """

    name: str
    keys: str
    file: str
    text: str = ""
    rows: tuple[Row, ...] = ()
    said: tuple[str, ...] = ()
    fault: str = ""
    offer: dict[str, Any] = field(default_factory=dict)
    encoding: str = "utf-8"
    cells: tuple[tuple[Any, ...], ...] = ()

    def content(self) -> bytes:
        """The bytes of the file."""
        if not self.cells:
            return self.text.encode(self.encoding)
        book, out = openpyxl.Workbook(), io.BytesIO()
        for line in self.cells:
            book.active.append(line)
        book.save(out)
        return out.getvalue()


A, B = {"prompt": "Hi", "response": "Hello"}, {"prompt": "Ready?", "response": "Yes."}
BOTH = (A, B)
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
LINES = f"{json.dumps(A)}\n{json.dumps(B)}\n"
STREAM = "one after another"


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2)


JSON = (
    Written("JSON Lines", "jsonl ndjson lines", "data.jsonl", LINES, BOTH),
    Written("A list of rows", "json array records", "data.json", pretty([A, B]), BOTH),
    Written("A list in a .jsonl file", "jsonl array", "data.jsonl", pretty([A, B]), BOTH,
            said=("one list of rows",)),
    Written("Pretty-printed objects one after another", "jsonl indent concatenated",
            "data.jsonl", f"{pretty(A)}\n{pretty(B)}\n", BOTH, said=(STREAM,)),
    Written("Objects with commas and no list around them", "jsonl comma brackets",
            "data.jsonl", f"{json.dumps(A)},\n{json.dumps(B)},\n", BOTH, said=(STREAM,)),
    Written("Objects on one line", "}{ concatenated", "data.jsonl",
            json.dumps(A) + json.dumps(B), BOTH, said=(STREAM,)),
    Written("Lists one after another", "][ concatenated arrays", "data.json",
            f"{json.dumps([A])}\n{json.dumps([B])}\n", BOTH, said=(STREAM,)),
    Written("Chats as bare lists", "list lists messages", "data.json",
            pretty([TALK]), ({"messages": TALK},)),
    Written("Lists of cells", "orient values header", "data.json",
            json.dumps([list(A), list(A.values()), list(B.values())]), BOTH),
    Written("Columns", "to_dict lists", "data.json",
            json.dumps({"prompt": ["Hi", "Ready?"], "response": ["Hello", "Yes."]}), BOTH,
            said=("Each list of the object is a column.",)),
    Written("pandas, orient=columns (its default)", "to_json columns", "data.json",
            json.dumps({"prompt": {"0": "Hi", "1": "Ready?"},
                        "response": {"0": "Hello", "1": "Yes."}}), BOTH),
    Written("pandas, orient=index; rows by their ids", "to_json index ids", "data.json",
            json.dumps({"0": A, "1": B}), BOTH, said=("its name is not used",)),
    Written("pandas, orient=split", "to_json split columns index data", "data.json",
            json.dumps({"columns": list(A), "index": [0, 1],
                        "data": [list(A.values()), list(B.values())]}), BOTH,
            said=("the lists in “data”",)),
    Written("pandas, orient=table; a list inside an object", "to_json table schema data rows",
            "data.json", json.dumps({"schema": {"fields": []}, "data": [A, B]}), BOTH,
            said=("the list “data”", "Not used: “schema”")),
    Written("Answers of the dataset viewer", "features rows row_idx row truncated_cells",
            "data.json", json.dumps({"features": [], "rows": [{"row_idx": 0, "row": A}]}), (A,)),
    Written("Several lists in one object", "train test splits", "data.json",
            json.dumps({"train": [A], "test": [B]}), fault="several lists of rows"),
    Written("NaN", "NaN Infinity", "data.jsonl", '{"prompt": "Hi", "response": NaN}\n' + LINES,
            BOTH, fault="NaN is not JSON.", offer={"skip_damaged": True}),
    Written("Single quotes (Python)", "' repr True None", "data.jsonl",
            str(A) + "\n" + LINES, BOTH, fault="text in single quotes",
            offer={"skip_damaged": True}),
    Written("A comma too many", ",} ,]", "data.jsonl",
            '{"prompt": "Hi", "response": "Hello",}\n' + LINES, BOTH,
            fault="a comma before the closing }", offer={"skip_damaged": True}),
    Written("Two objects on one line among others", "}{ extra data", "data.jsonl",
            LINES + json.dumps(A) + json.dumps(B) + "\n", BOTH,
            fault="Two JSON values stand on one line.", offer={"skip_damaged": True}),
    Written("A file that is cut off", "truncated incomplete", "data.jsonl",
            LINES + '{"prompt": "Hi", "resp', BOTH, fault="ends too early",
            offer={"skip_damaged": True}),
)  # fmt: skip

HEAD = ("Question", "Answer")
FAQ = ({"Question": "Open?", "Answer": "Daily."}, {"Question": "Where?", "Answer": "Here."})
CELLS = tuple(tuple(row.values()) for row in FAQ)
COMMAS = "Question,Answer\nOpen?,Daily.\nWhere?,Here.\n"

TABLES = (
    Written("CSV", "csv comma header", "data.csv", COMMAS, FAQ),
    Written("Semicolons, decimal commas", "csv ; European Excel", "data.csv",
            COMMAS.replace(",", ";"), FAQ, said=("separated by a semicolon",)),
    Written("Excel's line for the separator", "sep=;", "data.csv",
            "sep=;\n" + COMMAS.replace(",", ";"), FAQ),
    Written("Tabs", "tsv", "data.tsv", COMMAS.replace(",", "\t"), FAQ),
    Written("Quotes with a backslash", 'csv \\" escape MySQL Spark', "data.csv",
            'Question,Answer\n"Say \\"hi\\", now","Hi."\n',
            ({"Question": 'Say "hi", now', "Answer": "Hi."},), said=("with a backslash",)),
    Written("Single quotes", "csv quotechar", "data.csv",
            "'Question','Answer'\n'Open, now?','Yes.'\n",
            ({"Question": "Open, now?", "Answer": "Yes."},), said=("Single quotes",)),
    Written("An index without a name", "csv index Unnamed pandas", "data.csv",
            ",Question,Answer\n0,Open?,Daily.\n",
            ({"column 1": "0", "Question": "Open?", "Answer": "Daily."},)),
    Written("Row names (R)", "csv write.csv row.names", "data.csv",
            "Question,Answer\n1,Open?,Daily.\n2,Where?,Here.\n",
            ({"column 1": "1", **FAQ[0]}, {"column 1": "2", **FAQ[1]}),
            said=("one cell more than the header",)),
    Written("A title above the header", "csv title skiprows", "data.csv",
            "FAQ of May 2024\n\n" + COMMAS, FAQ,
            said=("The header is line 3. Line 1 stands above it and is not read",)),
    Written("A title in a workbook", "xlsx Excel merged title", "data.xlsx", rows=FAQ,
            cells=(("FAQ of May 2024",), HEAD, *CELLS), said=("The header is row 2.",)),
    Written("Notes below the table", "xlsx Excel notes source footer", "data.xlsx", rows=FAQ,
            cells=(HEAD, *CELLS, (), ("Source: the help desk",)),
            said=("Row 5 stands below the table and is not read",)),
    Written("A header of two rows", "xlsx Excel multi-level header merged", "data.xlsx",
            rows=({"Question text": "Open?", "Question by": "Ann",
                   "Answer text": "Daily.", "Answer by": "Bob"},),
            cells=(("Question", "", "Answer", ""), ("text", "by", "text", "by"),
                   ("Open?", "Ann", "Daily.", "Bob")),
            said=("The header is rows 1 and 2 together.",)),
    Written("A header that is not certain", "csv header", "data.csv",
            "text\nOpen now,Daily\nWhere to,Here\nAnd you,Me\n",
            ({"Open now": "Where to", "Daily": "Here"}, {"Open now": "And you", "Daily": "Me"}),
            fault="The row has 2 columns, the header has 1.",
            offer={"header_row": 2, "skip_damaged": True}),
    Written("A row with a cell too many", "csv ragged columns expected saw", "data.csv",
            COMMAS + "Yes, now,No\n", FAQ, fault="The row has 3 columns, the header has 2.",
            offer={"skip_damaged": True}),
)  # fmt: skip


def encoded(name: str, encoding: str, question: str, answer: str) -> Written:
    """A table of one row in an encoding that is offered."""
    return Written(name, encoding, "data.csv", f'prompt,response\n"{question}","{answer}"\n',
                   ({"prompt": question, "response": answer},), encoding=encoding,
                   fault="The text is not UTF-8.", offer={"encoding": encoding})  # fmt: skip


OFFERED = (
    encoded("Chinese", "gb18030", "今天天气怎么样", "今天天气很好，适合出门走走。"),
    encoded("Chinese, traditional", "big5", "今天天氣怎麼樣", "今天天氣很好，適合出門走走。"),
    encoded("Japanese", "shift_jis", "今日の天気は", "とても良い天気です。"),
    encoded("Japanese", "euc-jp", "今日の天気は", "とても良い天気です。"),
    encoded("Japanese", "iso2022-jp", "今日の天気は", "とても良い天気です。"),
    encoded("Korean", "euc-kr", "오늘 날씨 어때요", "아주 좋은 날씨입니다."),
    encoded("Russian", "cp1251", "Какая сегодня погода?", "Сегодня тепло и ясно."),
    encoded("Russian", "koi8-r", "Какая сегодня погода?", "Сегодня тепло и ясно."),
    encoded("Russian", "cp866", "Какая сегодня погода?", "Сегодня тепло и ясно."),
    encoded("Greek", "cp1253", "Τι καιρό κάνει σήμερα", "Έχει ήλιο και ζέστη."),
    encoded("Hebrew", "cp1255", "מה מזג האוויר היום", "היום חם ובהיר."),
    encoded("Arabic", "cp1256", "كيف الطقس اليوم", "الطقس جميل ومشمس اليوم."),
    encoded("Turkish", "cp1254", "Bugün hava nasıl?", "Güneşli ve sıcak, dışarı çıkın."),
    encoded("Polish", "cp1250", "Jaka jest dziś pogoda?", "Słonecznie, choć wieje lekki wiatr."),
    encoded("Czech", "iso8859-2", "Jaké je dnes počasí?", "Slunečno, ale vítr je svěží."),
    encoded("French", "latin-1", "Quel temps fait-il à Nîmes ?", "Il fait très beau."),
    encoded("German", "cp1252", "Wie ist das Wetter?", "„Schön“, für 0 € – überall."),
    encoded("Spanish (Mac)", "mac-roman", "¿Qué tiempo hace mañana?", "Hará sol en León."),
    encoded("French (DOS)", "cp850", "Où est né Molière ?", "Il est né à Paris."),
)

UNICODE = tuple(
    Written(name, encoding, "data.csv", "prompt,response\n天气 погода,добро\n",
            ({"prompt": "天气 погода", "response": "добро"},), encoding=encoding, said=said)
    for name, encoding, said in (
        ("UTF-8", "utf-8", ()),
        ("UTF-8 with a byte order mark", "utf-8-sig", ("UTF-8 with a byte order mark",)),
        ("UTF-16 with a mark", "utf-16", ("Read as UTF-16",)),
        ("UTF-16 without a mark", "utf-16-le", ("Read as UTF-16",)),
        ("UTF-16, the other byte first", "utf-16-be", ("Read as UTF-16",)),
        ("UTF-32", "utf-32", ("Read as UTF-32",)),
    )
)  # fmt: skip

FILES: tuple[Written, ...] = JSON + TABLES + UNICODE + OFFERED
