"""What one message says: its text, or its parts (blocks) of text, images, calls and reasoning.

The forms of OpenAI, Anthropic, Bedrock, Gemini, Mistral and Cohere come out alike. Who speaks is
not read here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer_backend.data.formats.conversations.calls import call_of
from trainer_backend.data.formats.conversations.literals import value_of
from trainer_backend.data.formats.conversations.marks import TRAIN_MARKS
from trainer_backend.data.formats.conversations.notes import Note, Say, keep_quiet, unread
from trainer_backend.data.formats.conversations.roles import CHAT_FIX
from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.data.json_values import BadJSON, cell_text
from trainer_backend.errors import RowError

OnImage = Callable[[dict], None]  # is given each message part that holds an image
ReadText = Callable[[Any], str]  # turns a cell that is neither text nor a list of parts into text
KINDS = {
    "text": "text", "input_text": "text", "output_text": "text", "summary_text": "text",
    "reasoning_text": "reasoning", "refusal": "text",
    "image": "image", "image_url": "image", "input_image": "image",
    "thinking": "reasoning", "reasoning": "reasoning", "thought": "reasoning",
    "reasoning.text": "reasoning", "reasoning.summary": "reasoning",
    "redacted_thinking": "hidden", "reasoning.encrypted": "hidden",
    "tool_use": "call", "tool_call": "call", "tool-call": "call", "function_call": "call",
    "tool_result": "result", "tool-result": "result", "function_call_output": "result",
    "audio": "sound", "input_audio": "sound", "audio_url": "sound", "video": "sound",
    "video_url": "sound", "step-start": "about",
}  # fmt: skip  # by “type”
KEYS = {
    "text": "text", "refusal": "text", "image": "image", "image_url": "image",
    "inlineData": "image", "inline_data": "image", "thinking": "reasoning",
    "reasoningContent": "reasoning", "functionCall": "call", "function_call": "call",
    "toolUse": "call", "functionResponse": "result", "function_response": "result",
    "toolResult": "result", "json": "json", "cachePoint": "about", "audio": "sound",
    "video": "sound",
}  # fmt: skip  # by the key of a part without a type
_ABOUT = {
    "type", "cache_control", "cachePoint", "annotations", "citations", "logprobs", "signature",
    "thoughtSignature", "thought_signature", "thought", "index", "id", "status", "detail",
    "format", "encrypted_content", "caller", "start_timestamp", "stop_timestamp", "flags", "state",
}  # fmt: skip
_BASE64 = {"iVBORw0KGgo": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}  # first letters
_OUTPUT_KEYS = ("content", "response", "output", "result")
_TEXT_KEYS = ("text", "content", "value", "refusal")
_HIDDEN = Note(
    "left_out_part",
    "Reasoning that is encrypted is left out.",
    "Nothing to do: it is no text, so no model can learn it.",
    "warning",
)
_GLUED = Note(
    "joined_parts",
    "Parts of a message were joined without a space between them.",
    "Write a space or a line break at the end of each part, if it belongs there.",
)
_OBJECT = Note(
    "object_text",
    "The text of messages is an object; it is written as its JSON.",
    "Nothing to do if the model should write JSON.",
)
_BLOCKS = Note(
    "parts_text",
    "The text of messages is a list of parts, written as text; it is read as these parts.",
    "Nothing to do, unless the model should read or write this list itself.",
)
_MOVED = Note(
    "moved_part",
    "The parts of a message were put in the order of chat templates: reasoning, text, calls.",
    "Split the message into several if the order matters.",
)


@dataclass(frozen=True)
class Ways:
    """How the cells of a row are read: what is done with images, odd values and notes."""

    on_image: OnImage | None = None
    text: ReadText = cell_text
    say: Say = keep_quiet


@dataclass
class Content:
    """What the parts of one message say; `texts` holds results of tools at their places."""

    texts: list[str | dict] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[dict] = field(default_factory=list)
    marks: list[tuple[str, Any]] = field(default_factory=list)  # learn marks of parts

    def results(self) -> list[dict]:
        """The results of tools."""
        return [one for one in self.texts if isinstance(one, dict)]


def read_content(value: Any, ways: Ways, role: str = "") -> Content:
    """Read the content of a message: text, one part, a list of parts, or null.

    Raises RowError.
    """
    content = Content()
    if isinstance(value, str):
        _add_text(value, content, ways, role)
    elif isinstance(value, list | tuple):
        for part in value:
            _add(part, content, ways, role)
    elif isinstance(value, Mapping) and _kind(value):
        _add(value, content, ways, role)
    elif isinstance(value, Mapping) and isinstance(value.get("parts"), list | tuple):
        return read_content(value["parts"], ways, role)
    elif value is not None:
        if isinstance(value, Mapping):
            ways.say(_OBJECT)
        content.texts.append(ways.text(value))
    return content


def joined(texts: list[str], say: Say) -> str:
    """The texts of a message's parts as one, as they stand; says so where words meet."""
    for before, after in zip(texts, texts[1:], strict=False):
        ends = before[-1:], after[:1]
        if (
            all(ends)
            and not any(end.isspace() for end in ends)
            and IMAGE_MARK not in (before, after)
        ):
            say(_GLUED)
    return "".join(texts)


def text_of(value: Any, ways: Ways) -> str:
    """A cell that holds only text, such as a system message: text, parts, or a message.

    Raises RowError for parts of another kind.
    """
    if isinstance(value, Mapping) and not _kind(value):
        for key in ("parts", "content", "value"):
            if value.get(key) is not None:
                return text_of(value[key], ways)
        if value:
            raise RowError(
                f"The system message is an object with {_names(value)}, not text.",
                'Write it as text, or as [{"text": "…"}].',
            )
    content = read_content(value, ways)
    if content.calls or content.reasoning or content.results():
        raise RowError("The system message holds something other than text.", "Keep only its text.")
    return joined([one for one in content.texts if isinstance(one, str)], ways.say)


def system_text(value: Any, ways: Ways) -> str:
    """The text of a system cell: text, blocks of text, or the text of such blocks.

    Raises RowError for parts of another kind.
    """
    if not isinstance(value, str):
        return text_of(value, ways)
    blocks = _blocks(value, ways.say) if value.lstrip()[:2] in ("[{", '{"') else None
    return value if blocks is None else text_of(blocks, ways)


def _blocks(text: str, say: Say) -> list | None:
    """The parts that a text holds, which is said; None for any other text."""
    try:
        value = value_of(text)
    except BadJSON:
        return None
    given = value.get("parts") if isinstance(value, dict) and len(value) == 1 else value
    if not isinstance(given, list) or not given:
        return None
    if not all(isinstance(one, dict) and _is_block(one) for one in given):
        return None
    say(_BLOCKS)
    return given


def _is_block(part: dict) -> bool:
    """Whether an object within a text can only be a part of a message."""
    if part.get("type") is None:
        return part.keys() <= {"text", "cache_control"} and "text" in part
    kind = _kind(part)
    return kind in ("image", "reasoning") or (kind == "text" and "text" in part)


def is_part(value: Any) -> bool:
    """Whether a value is a part of a message of a kind that is read."""
    return isinstance(value, Mapping) and bool(_kind(value)) and "name" not in value


def holds_results(value: Any) -> bool:
    """Whether the content of a message of a tool is whole results, with the ids of their calls."""
    parts = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(part, Mapping) and _kind(part) == "result" for part in parts)


def as_data_url(image: Any) -> Any:
    """An image as a data URL where it is given as bare base64; any other as it is."""
    if isinstance(image, str):
        for begin, media in _BASE64.items():
            if image.startswith(begin):
                return f"data:image/{media};base64,{image}"
    return image


def _names(value: Mapping) -> str:
    return ", ".join(f"“{str(key)[:40]}”" for key in list(value)[:6])


def _kind(part: Mapping) -> str:
    """What a part is, by its type or else by its key; "" if that is not known."""
    declared = part.get("type")
    if isinstance(declared, str) and declared:
        return KINDS.get(declared.strip().lower(), "")
    found = [key for key in KEYS if part.get(key) is not None]
    return KEYS[found[0]] if found else ""


def _add(part: Any, content: Content, ways: Ways, role: str) -> None:
    """Read one part into `content`. Raises RowError for a part of a kind that is not read."""
    if isinstance(part, str):
        _add_text(part, content, ways, role)
        return
    kind = _known_kind(part, role)
    content.marks += [(key, part[key]) for key in TRAIN_MARKS if part.get(key) is not None]
    if content.calls and kind == "text" or kind == "reasoning" and (content.texts or content.calls):
        ways.say(_MOVED)
    if kind == "reasoning":
        content.reasoning.append(_reasoning(part, ways))
    elif kind == "call":
        content.calls.append(_call(part, ways))
    elif kind == "hidden":
        ways.say(_HIDDEN)
    elif kind == "text":
        _add_text(_text(part, ways), content, ways, role)
    elif kind != "about":
        content.texts.append(_TEXTS[kind](part, ways))


def _add_text(text: str, content: Content, ways: Ways, role: str) -> None:
    """Add a text, or the parts of which it is the JSON."""
    blocks = _blocks(text, ways.say) if text[:2] == "[{" and role != "tool" else None
    if blocks is None:
        content.texts.append(text)
    for part in blocks or ():
        _add(part, content, ways, role)


def _known_kind(part: Any, role: str) -> str:
    """What a part is. Raises RowError for a kind that is not read."""
    kind = _kind(part) if isinstance(part, Mapping) else ""
    if kind == "text" and part.get("thought") is True:
        return "reasoning"
    if not kind and role == "tool" and isinstance(part, Mapping):
        return "output"
    if not kind:
        _refuse(part)
    if "type" not in part:
        _refuse_two(part)
    return kind


def _refuse(part: Any) -> None:
    if not isinstance(part, Mapping):
        raise RowError("A message holds something other than text.", CHAT_FIX)
    name = part.get("type") or next((key for key in part if part[key] is not None), "")
    raise RowError(
        f"A message holds something other than text (“{str(name)[:40]}”).",
        "Text, images, calls, results of tools and reasoning are read. Write it as one of them, or "
        "remove it.",
    )


def _refuse_two(part: Mapping) -> None:
    kinds = [key for key in KEYS if part.get(key) is not None and KEYS[key] != "about"]
    if len(kinds) > 1:
        raise RowError(
            f"A part of a message has “{kinds[0]}” and “{kinds[1]}”.",
            "Write each as a part of its own.",
        )


def _text(part: Mapping, ways: Ways) -> str:
    found = [key for key in _TEXT_KEYS if part.get(key) is not None]
    rest = [
        key
        for key in part
        if part[key] is not None and key not in _ABOUT and key not in {*_TEXT_KEYS, *TRAIN_MARKS}
    ]
    if rest:
        ways.say(unread(rest, "parts of messages"))
    return cell_text(part[found[0]]) if found else ""


def _image(part: Mapping, ways: Ways) -> str:
    given = dict(part)
    inline = part.get("inlineData") or part.get("inline_data")
    if isinstance(inline, Mapping):
        media = inline.get("mimeType") or inline.get("mime_type") or ""
        if not str(media).startswith("image/"):
            raise RowError(
                f"A message holds a file of the type “{str(media)[:40]}”; only images can be used.",
                "Remove such rows, or keep only their text.",
            )
        given = {"image": f"data:{media};base64,{inline.get('data', '')}"}
    image = part.get("image")
    if isinstance(image, Mapping) and isinstance(image.get("source"), Mapping):  # Bedrock
        data = image["source"].get("bytes", "")
        given = {"image": f"data:image/{image.get('format', 'png')};base64,{data}"}
    if ways.on_image:
        ways.on_image(given)
    return IMAGE_MARK


def _reasoning(part: Mapping, ways: Ways) -> str:
    inner = part.get("reasoningContent")
    if isinstance(inner, Mapping):
        part = inner.get("reasoningText") or inner
        if not isinstance(part, Mapping):
            return cell_text(part)
    for key in ("thinking", "text", "reasoning", "thought", "content", "summary"):
        value = part.get(key)
        if value not in (None, "", []) and not isinstance(value, bool):
            return reasoning_text(value, ways)
    if part.get("redactedContent") is not None or part.get("encrypted_content") is not None:
        ways.say(_HIDDEN)
    return ""


def reasoning_text(value: Any, ways: Ways) -> str:
    """Reasoning as text: a text, or a list of parts of it, which stand in paragraphs."""
    if not isinstance(value, list | tuple):
        return cell_text(value)
    content = read_content(value, ways)
    texts = [*content.reasoning, *(one for one in content.texts if isinstance(one, str))]
    return "\n\n".join(text for text in texts if text)


def _call(part: Mapping, ways: Ways) -> dict:
    filled = any(item is None for item in part.values())  # as tables fill the keys of other parts
    return call_of(part, ways.say, filled)


def _result(part: Mapping, ways: Ways) -> dict:
    """The result of a tool as a message."""
    for key in ("functionResponse", "function_response", "toolResult"):
        if isinstance(part.get(key), Mapping):
            part = part[key]
            break
    value = next(
        (
            part[key]
            for key in ("content", "response", "output", "result")
            if part.get(key) is not None
        ),
        None,
    )
    message: dict[str, Any] = {"role": "tool", "content": output_text(value, ways)}
    for key in ("tool_use_id", "toolUseId", "tool_call_id", "toolCallId", "call_id", "id"):
        if part.get(key):
            message["tool_call_id"] = str(part[key])
            break
    name = part.get("name") or part.get("toolName") or part.get("tool_name")
    if name:
        message["name"] = str(name)
    if part.get("is_error") or part.get("status") == "error":
        message["is_error"] = True
        ways.say(unread(["is_error"], "results of tools"))
    return message


def output_text(value: Any, ways: Ways) -> str:
    """What a tool gave back as text: text as it is, parts joined, all else as its JSON."""
    if isinstance(value, list | tuple) and all(
        isinstance(one, Mapping) and (_kind(one) or "document" in one) for one in value
    ):
        content = read_content(value, ways, "tool")
        return joined([one for one in content.texts if isinstance(one, str)], ways.say)
    if isinstance(value, Mapping | list | tuple):
        return cell_text(value)
    return "" if value is None else ways.text(value)


def _output(part: Mapping, ways: Ways) -> str:
    """A part of a tool's result that is data: a document, or JSON."""
    for key in ("json", "document"):
        inner = part.get(key)
        if inner is not None:
            data = inner.get("data") if key == "document" and isinstance(inner, Mapping) else inner
            return cell_text(data)
    return cell_text(dict(part))


def _no_sound(part: Mapping, ways: Ways) -> str:
    raise RowError(
        "A message holds audio or video; only text and images can be trained on.",
        "Remove such rows, or keep only their text.",
    )


_TEXTS: dict[str, Callable[[Mapping, Ways], str | dict]] = {  # what the kinds of parts become
    "image": _image,
    "result": _result,
    "output": _output,
    "json": _output,
    "sound": _no_sound,
}
