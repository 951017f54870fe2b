"""The pictures of one row: out of its picture column, or out of the parts of its messages.

A picture is bytes that came with the upload, or the name of one the dataset keeps; an address of
the web or a path of this machine is refused, never opened.
"""

from typing import Any

from trainer_backend.data.images import ImageBytes, from_data_url, is_data_url, is_stored_name
from trainer_backend.errors import RowError

IMAGE_MARK = "<image>"  # stands for an image in a text, whatever the model's own mark is
Picture = ImageBytes | str
_KEPT_IN = ("image", "image_url", "url", "path", "data")
_FIX = "Put the pictures and the table into one zip, or use a Parquet file that holds them."


def holds_picture(value: Any) -> bool:
    """Whether a cell is a picture, or a list of them."""
    if isinstance(value, list):
        return bool(value) and all(map(holds_picture, value))
    if isinstance(value, dict):
        stored = value.get("image")
        return isinstance(stored, str) and is_stored_name(stored)
    return isinstance(value, ImageBytes) or (isinstance(value, str) and is_data_url(value))


def to_pictures(value: Any) -> list[Picture]:
    """All pictures of a cell; RowError if one is not in the upload."""
    if value is None or value == "":
        return []
    if isinstance(value, list):
        return [picture for one in value for picture in to_pictures(one)]
    return [_one(value)]


def part_picture(part: dict) -> Picture | None:
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


def _one(value: Any) -> Picture:
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


def placed(texts: list[str], inside: list[Picture | None], column: list[Picture]) -> list[Picture]:
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
