"""Pictures that came with the data: their bytes, told by content, and the name they are kept under.

No address is fetched and no path of this machine is read; who stores the bytes is the dataset.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

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
