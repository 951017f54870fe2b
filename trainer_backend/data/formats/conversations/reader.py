"""Reads turns one by one and adds their messages, in canonical form, to those before.

What of a turn is its speaker, its text, its reasoning, its calls, its images. Which cell the turns
come from is not known here.
"""

from collections.abc import Mapping
from typing import Any

from trainer_backend.data.formats.conversations.calls import CALL_KEYS, calls_in, calls_of
from trainer_backend.data.formats.conversations.marks import TRAIN_MARKS, is_trained, learned
from trainer_backend.data.formats.conversations.notes import Say, unread
from trainer_backend.data.formats.conversations.parts import (
    Content,
    Ways,
    as_data_url,
    holds_results,
    is_part,
    joined,
    output_text,
    read_content,
    reasoning_text,
)
from trainer_backend.data.formats.conversations.roles import (
    ROLE_KEYS,
    holds_calls,
    is_tools,
    role_of,
    speaker_of,
)
from trainer_backend.data.formats.conversations.turns import CONTENT_KEYS, ITEMS, unwrapped
from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.data.json_values import cell_text
from trainer_backend.errors import RowError

REASONING_KEYS = (
    "reasoning_content", "reasoning", "thinking", "thought", "thoughts", "tool_plan",
    "reasoning_details",
)  # fmt: skip
_ID_KEYS = ("tool_call_id", "tool_use_id", "toolUseId", "toolCallId", "call_id")
_RESULT_KEYS = ("tool_results", "tool_result", "output", "outputs")
_SOUND_KEYS = ("videos", "audios", "video", "audio")
_READ = {
    *ROLE_KEYS, *CONTENT_KEYS, *REASONING_KEYS, *CALL_KEYS, *TRAIN_MARKS, *_ID_KEYS,
    *_RESULT_KEYS, *_SOUND_KEYS, "refusal", "images", "image", "name", "type", "is_error",
}  # fmt: skip
_EMPTY: tuple[Any, ...] = (None, "", [], {})


class TurnReader:
    """Reads the turns of one conversation and adds their messages.

    `waiting`: the last message is reasoning whose answer follows in the next turn.
    """

    def __init__(self, ways: Ways, filled: bool) -> None:
        self.ways, self.filled = ways, filled
        self.messages: list[dict] = []
        self.waiting = False
        self.unread: dict[str, None] = {}  # an ordered set

    def read(self, turn: Any) -> None:
        """Add the messages of one turn. Raises RowError."""
        turn = unwrapped(turn)
        if turn.get("role") is None and turn.get("type") in ITEMS:
            self._read_item(turn)
            return
        speaker = speaker_of(turn)
        role = role_of(speaker, turn)
        if is_tools(speaker):
            _refuse_definitions(turn)
        _refuse_sound(turn)
        if holds_calls(speaker) and not any(turn.get(key) for key in CALL_KEYS):
            content = self._calling(turn)
        else:
            content = self._content(turn, role)
        trained = _trained(turn, content, role, self.ways.say)
        message = self._message(turn, content, role)
        if not trained:
            message["train"] = False
        self._add(message, content, joins=holds_calls(speaker))

    def finish(self) -> list[dict]:
        """The messages, results linked to their calls; says which keys were not read."""
        _link(self.messages)
        if self.unread:
            self.ways.say(unread(list(self.unread), "messages"))
        return self.messages

    def _read_item(self, item: Mapping) -> None:
        """An item of OpenAI's Responses API that has no role."""
        content = Content()
        if item["type"] == "function_call_output":
            self.messages += read_content([item], self.ways).results()
            return
        if item["type"] == "function_call":
            content.calls = calls_of(item, self.ways.say, self.filled)
        else:
            content = read_content([item], self.ways)
        message = self._message({}, content, "assistant")
        self._add(message, content, joins=item["type"] == "function_call")
        self.waiting = item["type"] == "reasoning"

    def _content(self, turn: Mapping, role: str) -> Content:
        """Read the text of a turn from the one key that has it. Raises RowError."""
        found = [key for key in CONTENT_KEYS if turn.get(key) not in _EMPTY]
        if role == "tool" and not found:
            return self._outputs(turn)
        if not found and turn.get("refusal"):
            found = ["refusal"]
        if not found:
            _refuse_unread(turn)
            return Content()
        value = turn[found[0]]
        if role == "tool" and not holds_results(value):
            content = Content([output_text(value, self.ways)])
        else:
            content = read_content(value, self.ways, role)
        for other in found[1:]:
            if not _same(content, read_content(turn[other], Ways(text=self.ways.text), role)):
                what = f"A message has “{found[0]}” and “{other}”, and they differ."
                raise RowError(what, "Keep the one that holds the text of the message.")
        if turn.get("refusal") and found[0] != "refusal":
            self._add_refusal(turn, content)
        return content

    def _add_refusal(self, turn: Mapping, content: Content) -> None:
        if "".join(map(str, content.texts)).strip() not in ("", str(turn["refusal"]).strip()):
            what = "A message has “content” and “refusal”, and they differ."
            raise RowError(what, "Keep the one that the model should write.")
        content.texts = [cell_text(turn["refusal"])]

    def _outputs(self, turn: Mapping) -> Content:
        """The results of a message of tools that has no content (Cohere)."""
        key = next((key for key in _RESULT_KEYS if turn.get(key) is not None), None)
        if key is None:
            _refuse_unread(turn)
            return Content()
        value = turn[key]
        if key not in ("tool_results", "tool_result") or not isinstance(value, list):
            return Content([output_text(value, self.ways)])
        results: list[str | dict] = []
        for one in value:
            call = one.get("call") if isinstance(one, Mapping) else None
            outputs = one.get("outputs", one.get("output")) if isinstance(call, Mapping) else one
            result = {"role": "tool", "content": cell_text(outputs)}
            if isinstance(call, Mapping) and call.get("name"):
                result["name"] = str(call["name"])
            results.append(result)
        return Content(results)

    def _calling(self, turn: Mapping) -> Content:
        """The calls of a turn whose role says that its text is calls."""
        value = next((turn[key] for key in CONTENT_KEYS if turn.get(key) not in _EMPTY), None)
        if isinstance(value, list | tuple) and all(map(is_part, value)):
            content = read_content(value, self.ways)
            value = "".join(one for one in content.texts if isinstance(one, str))
        return Content(calls=calls_of(value, self.ways.say, self.filled))

    def _message(self, turn: Mapping, content: Content, role: str) -> dict:
        texts = [one for one in content.texts if isinstance(one, str)]
        text = texts[0] if len(texts) == 1 else joined(texts, self.ways.say)
        message: dict[str, Any] = {"role": role, "content": self._with_images(turn, text)}
        reasoning = self._reasoning(turn, content)
        if reasoning:
            message["reasoning_content"] = reasoning
        calls = content.calls + calls_in(turn, self.ways.say, self.filled)
        if calls:
            message["tool_calls"] = calls
        if role == "tool":
            identity = next((turn[key] for key in _ID_KEYS if turn.get(key)), None)
            if identity is None and self._known(turn.get("id")):
                identity = turn["id"]
            message |= {} if identity is None else {"tool_call_id": str(identity)}
        return message | self._rest(turn, role)

    def _reasoning(self, turn: Mapping, content: Content) -> str:
        """The reasoning of a turn, from its parts or the one key that has it."""
        found = {
            key: reasoning_text(turn[key], self.ways) for key in REASONING_KEYS if turn.get(key)
        }
        if content.reasoning:
            found = {"content": "\n\n".join(filter(None, content.reasoning)), **found}
        found = {key: text for key, text in found.items() if text}
        if len({text.strip() for text in found.values()}) > 1:
            first, second = list(found)[:2]
            what = f"A message has reasoning in “{first}” and in “{second}”, and they differ."
            raise RowError(what, "Keep the one that the model should learn.")
        return next(iter(found.values()), "")

    def _with_images(self, turn: Mapping, text: str) -> str:
        """The text with a mark for each image that the message has in a key of its own."""
        images = turn.get("images") or turn.get("image")
        if not images:
            return text
        images = images if isinstance(images, list | tuple) else [images]
        if self.ways.on_image:
            for image in images:
                self.ways.on_image({"image": as_data_url(image)})
        if text.count(IMAGE_MARK) in (0, len(images)):
            return text if IMAGE_MARK in text else IMAGE_MARK * len(images) + text
        raise RowError(
            f"The number of images and of {IMAGE_MARK} marks in a message differ.",
            f"Write {IMAGE_MARK} once for each image, or not at all.",
        )

    def _rest(self, turn: Mapping, role: str) -> dict:
        """The name of a message, and keys that nothing here reads, as they are."""
        rest = {key: item for key, item in turn.items() if key not in _READ and item not in _EMPTY}
        if role == "tool" and self._known(turn.get("id")):
            rest.pop("id")
        self.unread |= dict.fromkeys(rest)
        name = turn.get("name") or turn.get("tool_name")
        rest.pop("tool_name", None)
        if isinstance(name, str) and name:
            rest["name"] = name
        if turn.get("is_error"):
            rest["is_error"] = True
        return rest

    def _known(self, identity: Any) -> bool:
        """Whether an earlier call has this id."""
        calls = (call for one in self.messages for call in one.get("tool_calls", ()))
        return bool(identity) and any(call.get("id") == identity for call in calls)

    def _add(self, message: dict, content: Content, joins: bool = False) -> None:
        """Add a message, after the results its turn has; `joins`: to the answer before it."""
        if content.results():
            if message["role"] in ("assistant", "system"):
                raise RowError(
                    "An answer holds the results of tools, which others give.",
                    "Put them into a message of their own, with the role tool.",
                )
            for run in _runs(content.texts):
                self.messages += run if isinstance(run, list) else [{**message, "content": run}]
            return
        before = self.messages[-1] if self.messages else {}
        same = before.get("train") == message.get("train")
        if (
            (joins or self.waiting)
            and before.get("role") == message["role"] == "assistant"
            and same
        ):
            self.messages[-1] = _merged(before, message)
        else:
            self.messages.append(message)
        self.waiting = False


def _runs(texts: list[str | dict]) -> list[str | list[dict]]:
    """Texts joined and results gathered where they stand next to each other; no empty texts."""
    runs: list[str | list[dict]] = []
    for one in texts:
        last = runs[-1] if runs else None
        if isinstance(one, dict):
            if isinstance(last, list):
                last.append(one)
            else:
                runs.append([one])
        elif isinstance(last, str):
            runs[-1] = last + one
        elif one:
            runs.append(one)
    return runs


def _merged(before: dict, message: dict) -> dict:
    """Two messages of one answer as one: text, then calls."""
    calls = [*before.get("tool_calls", ()), *message.get("tool_calls", ())]
    thoughts = [one["reasoning_content"] for one in (before, message) if "reasoning_content" in one]
    merged = {**before, **message, "content": before["content"] + message["content"]}
    merged |= {"reasoning_content": "\n\n".join(thoughts)} if thoughts else {}
    return merged | ({"tool_calls": calls} if calls else {})


def _trained(turn: Mapping, content: Content, role: str, say: Say) -> bool:
    """Whether a turn is learned, by its marks or those of all its parts. Raises RowError."""
    trained = learned(turn, role, say)
    if content.marks and role == "assistant":
        marks = {is_trained({key: value}) for key, value in content.marks}
        if len(marks) > 1 or len(content.marks) < len(content.texts):
            raise RowError(
                "Some parts of an answer are marked as not to be learned; only whole messages can "
                "be marked.",
                "Split the message, or mark all of its parts alike.",
            )
        trained = trained and marks == {True}
    return trained


def _refuse_unread(turn: Mapping) -> None:
    """Raise RowError for a turn without any text that has some under an unknown name."""
    if any(turn.get(key) for key in (*CALL_KEYS, *REASONING_KEYS, "images", "image")):
        return
    about = {*ROLE_KEYS, *TRAIN_MARKS, *_ID_KEYS, "type", "id", "name", "refusal", *CONTENT_KEYS}
    rest = [key for key, item in turn.items() if key not in about and item not in (None, "", [])]
    if rest:
        names = ", ".join(f"“{str(key)[:40]}”" for key in rest[:5])
        raise RowError(
            f"A message has no text under a name that is known; it has {names}.",
            "Rename the key that holds the text to “content”.",
        )


def _refuse_sound(turn: Mapping) -> None:
    for key in _SOUND_KEYS:
        if turn.get(key):
            what = f"A message has “{key}”; only text and images can be trained on."
            raise RowError(what, "Remove such rows, or keep only their text.")


def _refuse_definitions(turn: Mapping) -> None:
    """Raise RowError where the role “tools” stands for the tools themselves, not for results."""
    value = next((turn[key] for key in CONTENT_KEYS if turn.get(key) is not None), None)
    text = value if isinstance(value, str) else cell_text(value)
    if '"parameters"' in text or '"input_schema"' in text:
        raise RowError(
            "A message of the role “tools” lists the tools; it is no part of the conversation.",
            "Put the list into a column “tools” beside the messages.",
        )


def _same(content: Content, other: Content) -> bool:
    texts, again = ("".join(map(str, one.texts)) for one in (content, other))
    return texts.strip() == again.strip() and content.calls == other.calls


def _link(messages: list[dict]) -> None:
    """Give results of tools the name of the call whose id they carry."""
    names: dict[str, str] = {}
    for message in messages:
        for call in message.get("tool_calls", ()):
            if "id" in call:
                names[call["id"]] = call["function"]["name"]
        identity = message.get("tool_call_id")
        if identity in names and "name" not in message:
            message["name"] = names[identity]
