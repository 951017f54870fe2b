"""The pictures of a dataset on disk: images/<sha256>.<ending>, each once, within limits.

What counts as a picture in a row is images.py and formats.py; models read them in vision.py.
"""

import io
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from trainer_backend.data.images import MAX_IMAGE, ImageBytes, is_stored_name
from trainer_backend.errors import RowError

MAX_SIDE, MAX_PIXELS = 30_000, 100_000_000
KINDS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
STORED_IMAGE = '{"image":"images/'  # how a row with an image begins it in JSON


class ImageStore:
    """Keeps pictures below one dataset folder; those of `others` (folders) are linked."""

    def __init__(self, folder: Path, others: Sequence[Path] = ()):
        self.folder, self.others = folder, others
        self._known: dict[str, RowError | None] = {}

    def keep(self, image: ImageBytes | str) -> str:
        """Store a picture and return its name; RowError if it is none, too large, or not there."""
        name = image if isinstance(image, str) else image.stored_name
        if name not in self._known:
            self._known[name] = self._add(name, image)
        if error := self._known[name]:
            raise error
        return name

    def _add(self, name: str, image: ImageBytes | str) -> RowError | None:
        try:
            if isinstance(image, str):
                self._link(name)
            else:
                check_picture(image.data)
                self._path(name).write_bytes(image.data)
        except RowError as error:
            return error
        return None

    def _path(self, name: str) -> Path:
        (self.folder / "images").mkdir(exist_ok=True)
        return self.folder / name

    def _link(self, name: str) -> None:
        found = next((one / name for one in self.others if (one / name).is_file()), None)
        if not is_stored_name(name) or found is None:
            fix = "Upload the pictures together with the rows, in one zip archive."
            raise RowError("The picture of the row is not in the upload.", fix)
        try:
            os.link(found, self._path(name))
        except OSError:  # a file system without links
            shutil.copyfile(found, self._path(name))


def check_picture(data: bytes) -> None:
    """Refuse what is no picture or is too large, by the header alone: nothing is decoded."""
    if len(data) > MAX_IMAGE:
        raise RowError(
            f"A picture is larger than {MAX_IMAGE >> 20} MB.", "Save it smaller, as JPEG."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=KINDS) as picture:
                width, height = picture.size
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        fix = "Save it again as PNG or JPEG."
        raise RowError("A picture is damaged or far too large.", fix) from None
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise RowError(
            f"A picture has more than {MAX_PIXELS // 10**6} million pixels.", "Make it smaller."
        )


def named(value: Any) -> Any:
    """A row with the bare name of each stored picture in its place, as a zip archive has it."""
    if isinstance(value, list):
        return [named(item) for item in value]
    if isinstance(value, dict):
        stored = value.get("image")
        if isinstance(stored, str) and is_stored_name(stored) and value.keys() <= {"image", "name"}:
            return stored
        return {key: named(item) for key, item in value.items()}
    return value


def pictures_in(value: Any) -> Iterator[ImageBytes | str]:
    """All pictures in a row, also those in columns that do not train."""
    if isinstance(value, ImageBytes):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from pictures_in(item)
    elif isinstance(value, dict):
        stored = value.get("image")
        if isinstance(stored, str) and is_stored_name(stored):
            yield stored
            return
        for item in value.values():
            yield from pictures_in(item)
