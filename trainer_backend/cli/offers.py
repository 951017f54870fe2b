"""What an error offers, as options of the command line.

Which ways there are is decided where the error is raised; here they are only written out.
"""

from collections.abc import Iterator
from typing import Any

from trainer_backend.data.readers.encodings.names import encoding_name
from trainer_backend.errors import UserError


def offer_lines(error: UserError) -> list[str]:
    """One line for each way of reading that the error offers: the option, and what it gives."""
    return [f"  try:   {line}" for line in _ways(error.offer or {})]


def _ways(offer: dict[str, Any]) -> Iterator[str]:
    encoding = offer.get("encoding")
    if encoding:
        found = {"encoding": encoding, "name": encoding_name(encoding), **offer}
        for one in (found, *(offer.get("alternatives") or ())):
            shown = f": “{one['preview']}”" if one.get("preview") else ""
            yield f"--encoding {one['encoding']}  (as {one['name']}{shown})"
    if offer.get("header_row"):
        yield f"--header-row {offer['header_row']}  (the row with the column names)"
    if offer.get("sheet"):
        yield f"--sheet {_quoted(str(offer['sheet']))}"
    if offer.get("skip_damaged"):
        yield "--skip-damaged  (leaves out the rows that cannot be read, and lists them)"


def _quoted(text: str) -> str:
    """A name as one word of a command."""
    return text if text.isalnum() else f'"{text}"'
