"""Images in training data: recognised by content, found in rows, kept in a dataset's folder.

No URL is fetched, and no path that a row names is opened.
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

MAX_IMAGE = 32 * 1024 * 1024  # bytes of one image
MAX_SIDE, MAX_PIXELS = 30_000, 100_000_000
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")
IMAGE_MARK = "<image>"  # marks the place of an image in a text, for every model
STORED_IMAGE = '{"image":"images/'  # how a stored image begins in the JSON of a row
_KINDS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
    (b"BM", ".bmp"),
)
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
_STORED = re.compile(r"images/[0-9a-f]{64}\.(?:png|jpg|gif|webp|bmp)")
_PART_KEYS = ("image", "image_url", "url", "path", "data")  # where a message part has its image
_FIX = "Put the images and the table into one zip archive, or use a Parquet file with both."


@dataclass(frozen=True)
class ImageBytes:
    """An uploaded image; `suffix` comes from the bytes, `name` from the upload."""

    data: bytes
    suffix: str
    name: str = ""

    @property
    def stored_name(self) -> str:
        """“images/<SHA-256 of the bytes>.<suffix>”: equal images share one file."""
        return f"images/{hashlib.sha256(self.data).hexdigest()}{self.suffix}"

    def to_json(self) -> dict[str, str]:
        """The value that replaces the bytes in a stored row: {"image": stored name, "name"?}."""
        return {"image": self.stored_name} | ({"name": self.name} if self.name else {})


ImageRef = ImageBytes | str  # an uploaded image, or the name of a stored one


def image_suffix(data: bytes) -> str:
    """The suffix for the image kind that the first bytes show; "" if it is not supported."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for magic, suffix in _MAGIC if data.startswith(magic)), "")


def to_image(data: bytes, name: str = "") -> ImageBytes | None:
    """The bytes as an image; None if they are of another kind or more than MAX_IMAGE."""
    suffix = image_suffix(data) if len(data) <= MAX_IMAGE else ""
    return ImageBytes(data, suffix, name) if suffix else None


def check_image(data: bytes) -> None:
    """Check size and header without decoding. Raises RowError if damaged or too large."""
    if len(data) > MAX_IMAGE:
        raise RowError(
            f"An image is larger than {MAX_IMAGE >> 20} MB.", "Save it smaller, as JPEG."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_KINDS) as image:
                width, height = image.size
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        fix = "Save it again as PNG or JPEG."
        raise RowError("An image is damaged or far too large.", fix) from None
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        what = f"An image has more than {MAX_PIXELS // 10**6} million pixels."
        raise RowError(what, "Make it smaller.")


def is_data_url(text: str) -> bool:
    """Whether a text is an image as a data URL, “data:image/…;base64,…” (RFC 2397)."""
    return text[:5].lower() == "data:" and bool(_DATA_URL.match(text))


def from_data_url(text: str) -> ImageBytes | None:
    """Decode the image of a data URL; None if it is damaged or not supported."""
    try:
        return to_image(base64.b64decode(text.split(",", 1)[1], validate=True))
    except (binascii.Error, ValueError):
        return None


def is_stored_name(text: str) -> bool:
    """Whether a text is the name of a stored image."""
    return bool(_STORED.fullmatch(text))


def _stored_name(value: dict) -> str | None:
    """The name in the value of a stored image, {"image": "images/…"}."""
    name = value.get("image")
    return name if isinstance(name, str) and is_stored_name(name) else None


def holds_image(value: Any) -> bool:
    """Whether a cell is an image, or a list of images."""
    if isinstance(value, list):
        return bool(value) and all(map(holds_image, value))
    if isinstance(value, dict):
        return _stored_name(value) is not None
    return isinstance(value, ImageBytes) or (isinstance(value, str) and is_data_url(value))


def cell_images(value: Any) -> list[ImageRef]:
    """All images of a cell. Raises RowError if one is damaged or not in the upload."""
    if value is None or value == "":
        return []
    if isinstance(value, list):
        return [image for item in value for image in cell_images(item)]
    return [_image(value)]


def part_image(part: dict) -> ImageRef | None:
    """The image of a message part; None for a bare {"type": "image"}, a place to be filled.

    Raises RowError as cell_images does.
    """
    source = part.get("source")  # as {"type": "base64", "media_type": …, "data": …}
    if isinstance(source, dict) and isinstance(source.get("data"), str):
        return _image(f"data:{source.get('media_type', 'image/png')};base64,{source['data']}")
    for key in _PART_KEYS:
        value = part.get(key)
        if isinstance(value, dict) and "url" in value:
            value = value["url"]
        if value is not None and value != "":
            return _image(value)
    return None


def _image(value: Any) -> ImageRef:
    if isinstance(value, dict):
        value = value.get("image", value.get("url", value.get("path")))
    if isinstance(value, ImageBytes):
        return value
    if isinstance(value, str):
        if is_stored_name(value):
            return value
        if is_data_url(value):
            if image := from_data_url(value):
                return image
            raise RowError(
                "An image in the row is damaged, too large or of an unknown kind.",
                f"Use PNG, JPEG, GIF, WebP or BMP of up to {MAX_IMAGE >> 20} MB.",
            )
        if value.lower().startswith(("http://", "https://", "//")):
            raise RowError("An image is only a web address; it is not fetched.", _FIX)
    raise RowError("An image that the row names is not in the upload.", _FIX)


def placed(
    texts: list[str], inside: list[ImageRef | None], column: list[ImageRef]
) -> list[ImageRef]:
    """The images of a row in the order of their marks in `texts`.

    `inside` are the images of message parts, None for a part without one: it takes the next image
    of `column`, the image column. Raises RowError if the numbers of images and marks differ.
    """
    rest = iter(column)
    found = [one or next(rest, None) for one in inside] if inside else column
    images = [one for one in found if one is not None]
    if len(images) < len(found):
        raise RowError("An image that the row names is not in the upload.", _FIX)
    marks = sum(text.count(IMAGE_MARK) for text in texts)
    if marks not in (0, len(images)):
        raise RowError(
            f"The number of images and of {IMAGE_MARK} marks in the text differ.",
            f"Write {IMAGE_MARK} once for each image, or not at all.",
        )
    return images


def images_in(value: Any) -> Iterator[ImageRef]:
    """All images of a row, including those in columns that are not trained on."""
    if isinstance(value, ImageBytes):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from images_in(item)
    elif isinstance(value, dict):
        if name := _stored_name(value):
            yield name
        else:
            yield from images_in(list(value.values()))


def named(value: Any) -> Any:
    """A row with the bare name of each stored image in its place, as a zip archive has it."""
    if isinstance(value, list):
        return [named(item) for item in value]
    if isinstance(value, dict):
        name = _stored_name(value)
        if name and value.keys() <= {"image", "name"}:
            return name
        return {key: named(item) for key, item in value.items()}
    return value


class ImageStore:
    """Stores images in `folder`/images; stored images of the folders `others` are hard-linked."""

    def __init__(self, folder: Path, others: Sequence[Path] = ()):
        self.folder, self.others = folder, others
        self._known: dict[str, RowError | None] = {}

    def keep(self, image: ImageRef) -> str:
        """Store an image and return its name. Raises RowError: damaged, too large, or missing."""
        name = image if isinstance(image, str) else image.stored_name
        if name not in self._known:
            self._known[name] = self._add(name, image)
        if fault := self._known[name]:
            raise fault
        return name

    def _add(self, name: str, image: ImageRef) -> RowError | None:
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
            fix = "Upload the images together with the rows, in one zip archive."
            raise RowError("The image of the row is not in the upload.", fix)
        try:
            os.link(found, self._path(name))
        except OSError:  # a file system without hard links
            shutil.copyfile(found, self._path(name))
