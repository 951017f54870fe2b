"""Pictures that came with the data: their bytes, told by content, and the name they are kept under.

No address is fetched and no path of this machine is read; who stores the bytes is the dataset.
"""

import base64
import binascii
import hashlib
import io
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from trainer_backend.errors import RowError

MAX_IMAGE = 32 * 1024 * 1024  # bytes of one stored picture
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
_STORED = re.compile(r"images/[0-9a-f]{64}\.(?:png|jpg|gif|webp|bmp)")


@dataclass(frozen=True)
class ImageBytes:
    """One picture as it was uploaded; `suffix` is what the bytes are, not what the name says."""

    data: bytes
    suffix: str
    name: str = ""  # as the upload called it

    @property
    def stored_name(self) -> str:
        """Where the dataset keeps it: the same bytes are the same file."""
        return f"images/{hashlib.sha256(self.data).hexdigest()}{self.suffix}"

    def to_json(self) -> dict:
        """What stands in the row instead of the bytes."""
        said = {"name": self.name} if self.name else {}
        return {"image": self.stored_name, **said}


def image_suffix(data: bytes) -> str:
    """The ending for what the first bytes say; empty if they are no picture we take."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ".webp"
    marks = (
        (b"\x89PNG\r\n\x1a\n", ".png"),
        (b"\xff\xd8\xff", ".jpg"),
        (b"GIF87a", ".gif"),
        (b"GIF89a", ".gif"),
        (b"BM", ".bmp"),
    )
    return next((suffix for mark, suffix in marks if data.startswith(mark)), "")


def to_image(data: bytes, name: str = "") -> ImageBytes | None:
    """Bytes as a picture; None if they are none, or too large."""
    suffix = image_suffix(data) if len(data) <= MAX_IMAGE else ""
    return ImageBytes(data, suffix, name) if suffix else None


def is_data_url(text: str) -> bool:
    """Whether a text is a picture written as “data:image/…;base64,…”."""
    return text[:5].lower() == "data:" and bool(_DATA_URL.match(text))


def from_data_url(text: str) -> ImageBytes | None:
    """The picture in a data URL; None if it is damaged."""
    try:
        return to_image(base64.b64decode(text.split(",", 1)[1], validate=True))
    except (binascii.Error, ValueError):
        return None


def is_stored_name(text: str) -> bool:
    """Whether a text names a picture that a dataset keeps."""
    return bool(_STORED.fullmatch(text))


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
                check_image(image.data)
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


def check_image(data: bytes) -> None:
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


def images_in(value: Any) -> Iterator[ImageBytes | str]:
    """All pictures in a row, also those in columns that do not train."""
    if isinstance(value, ImageBytes):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from images_in(item)
    elif isinstance(value, dict):
        stored = value.get("image")
        if isinstance(stored, str) and is_stored_name(stored):
            yield stored
            return
        for item in value.values():
            yield from images_in(item)


IMAGE_MARK = "<image>"  # stands for an image in a text, whatever the model's own mark is
ImageRef = ImageBytes | str
_KEPT_IN = ("image", "image_url", "url", "path", "data")
_FIX = "Put the pictures and the table into one zip, or use a Parquet file that holds them."


def holds_image(value: Any) -> bool:
    """Whether a cell is a picture, or a list of them."""
    if isinstance(value, list):
        return bool(value) and all(map(holds_image, value))
    if isinstance(value, dict):
        stored = value.get("image")
        return isinstance(stored, str) and is_stored_name(stored)
    return isinstance(value, ImageBytes) or (isinstance(value, str) and is_data_url(value))


def cell_images(value: Any) -> list[ImageRef]:
    """All pictures of a cell; RowError if one is not in the upload."""
    if value is None or value == "":
        return []
    if isinstance(value, list):
        return [picture for one in value for picture in cell_images(one)]
    return [_one(value)]


def part_image(part: dict) -> ImageRef | None:
    """The picture that a part of a message brings; None if it only marks the place of one."""
    source = part.get("source")  # as {"type": "base64", "media_type": …, "data": …}
    if isinstance(source, dict) and isinstance(source.get("data"), str):
        return _one(f"data:{source.get('media_type', 'image/png')};base64,{source['data']}")
    for key in _KEPT_IN:
        value = part.get(key)
        if isinstance(value, dict) and "url" in value:
            value = value["url"]
        if value is not None and value != "":
            return _one({"image": value} if key == "image" and isinstance(value, str) else value)
    return None


def _one(value: Any) -> ImageRef:
    if isinstance(value, dict):
        value = value.get("image", value.get("url", value.get("path")))
    if isinstance(value, ImageBytes):
        return value
    if isinstance(value, str):
        if is_stored_name(value):
            return value
        if is_data_url(value):
            if picture := from_data_url(value):
                return picture
            raise RowError(
                "A picture in the row is damaged, too large or of an unknown kind.",
                "Use PNG, JPEG, GIF, WebP or BMP of up to 32 MB.",
            )
        if value.lower().startswith(("http://", "https://", "//")):
            raise RowError("A picture is only an address on the web; none is fetched.", _FIX)
    raise RowError("A picture that the row names is not in the upload.", _FIX)


def placed(
    texts: list[str], inside: list[ImageRef | None], column: list[ImageRef]
) -> list[ImageRef]:
    """The pictures in the order of their marks, those without a place in a message as they come.

    `inside` are the pictures of message parts, None for parts that name none; `column` are those
    of the picture column. RowError if there are other places than pictures.
    """
    rest = iter(column)
    found = [one or next(rest, None) for one in inside] if inside else list(column)
    if None in found:
        raise RowError("A picture that the row names is not in the upload.", _FIX)
    marks = sum(text.count(IMAGE_MARK) for text in texts)
    if marks not in (0, len(found)):
        raise RowError(
            f"The number of pictures and of {IMAGE_MARK} marks in the text differ.",
            f"Write {IMAGE_MARK} once for each picture, or not at all.",
        )
    return found
