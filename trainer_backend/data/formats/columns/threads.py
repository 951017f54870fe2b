"""Files with one message in each row: chained into conversations, one row for each.

Rows are chained by the message they answer, or by the conversation they name; where neither is
there, nothing is chained. Files are not known here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer_backend.data.formats.columns.unreadable import CONTENT, SPEAKER
from trainer_backend.data.formats.conversations import to_messages
from trainer_backend.data.formats.mapping import EMPTY, plain_name, quoted
from trainer_backend.data.json_values import NumberText, cell_text
from trainer_backend.errors import RowError

Numbered = tuple[int, dict]
_OWN_ID = ("message_id", "id", "msg_id", "uuid", "node_id", "post_id", "comment_id")
_PARENT = ("parent_id", "parent", "parent_message_id", "parent_msg_id", "reply_to", "in_reply_to",
           "reply_to_id", "parent_uuid", "in_response_to")  # fmt: skip
_THREAD = ("conversation_id", "conv_id", "conversation", "session_id", "session", "thread_id",
           "thread", "chat_id", "dialog_id", "dialogue_id", "dialogue", "dialog", "ticket_id",
           "case_id", "conversation_hash", "group_id")  # fmt: skip
_ORDER = ("turn", "turn_id", "turn_index", "turn_number", "turn_no", "turn_idx", "message_index",
          "message_number", "msg_index", "position", "step", "seq", "sequence", "order", "index",
          "idx", "utterance_idx", "timestamp", "created_at", "time", "date")  # fmt: skip
_RANK = ("rank",)
_KEPT_KEYS = ("name", "tool_calls", "tool_call_id", "reasoning_content", "weight", "train", "loss")


@dataclass(frozen=True)
class Thread:
    """The columns that say who said what, and what belongs together."""

    speaker: str
    content: str
    own: str = ""  # the id of a message
    parent: str = ""  # the id of the message it answers
    thread: str = ""  # the conversation it belongs to
    order: str = ""  # its place there

    def sentence(self, count: int, made: int, aside: Sequence[int]) -> str:
        """What was done, in words, after the last row."""
        by = self.parent or self.thread
        words = (
            f"Each row of the file is one message: {count:,} of them were chained by {quoted(by)} "
            f"into {made:,} conversations, numbered by their first row."
        )
        if self.order:
            words += f" Their order is that of {quoted(self.order)}."
        if aside:
            rows = ", ".join(f"{row:,}" for row in aside[:8])
            rows += f" and {len(aside) - 8:,} more" if len(aside) > 8 else ""
            words += " Left out, because another answer to the same message ranks higher or comes "
            words += f"first: {len(aside):,} (rows {rows})."
        return words


def find_thread(rows: Sequence[dict], columns: Sequence[str]) -> Thread | None:
    """How the rows are chained; None when they are whole examples, or it is not certain."""

    def first(names: Iterable[str]) -> str:
        known = {plain_name(column): column for column in columns}
        return next((known[name] for name in names if name in known), "")

    speaker, content = first(SPEAKER), first(CONTENT)
    if not speaker or not content or not _are_turns(rows, speaker, content):
        return None
    own, parent = first(_OWN_ID), first(_PARENT)
    if own and parent and _answers_others(rows, own, parent):
        return Thread(speaker, content, own=own, parent=parent)
    thread = first(_THREAD)
    if thread and _repeats(rows, thread):
        return Thread(speaker, content, thread=thread, order=_order(rows, first(_ORDER)))
    return None


def _are_turns(rows: Sequence[dict], speaker: str, content: str) -> bool:
    """Whether all speakers are known roles and both sides speak."""
    turns = [_turn(row, speaker, content) for row in rows if row.get(content) not in EMPTY]
    try:
        roles = {one["role"] for one in to_messages(turns)} if turns else set()
    except RowError:
        return False
    return {"user", "assistant"} <= roles


def _turn(row: dict, speaker: str, content: str) -> dict[str, Any]:
    kept = {key: row[key] for key in _KEPT_KEYS if row.get(key) not in EMPTY}
    return {"role": row.get(speaker), "content": row.get(content), **kept}


def _answers_others(rows: Sequence[dict], own: str, parent: str) -> bool:
    ids = {_key(row.get(own)) for row in rows}
    return any(_key(row.get(parent)) in ids for row in rows if row.get(parent) not in EMPTY)


def _repeats(rows: Sequence[dict], thread: str) -> bool:
    keys = [_key(row.get(thread)) for row in rows]
    return "" not in keys and len(set(keys)) < len(keys)


def _order(rows: Sequence[dict], column: str) -> str:
    return column if column and all(row.get(column) not in EMPTY for row in rows) else ""


def _key(value: Any) -> str:
    return cell_text(value)


@dataclass
class Chained:
    """The conversations of chained rows, in the order of their first rows; read once.

    All messages are kept in memory until the last is read. `sentence` is set then.
    """

    rows: Iterable[Numbered]
    how: Thread
    on_end: Callable[[str], None]
    _messages: list[Numbered] = field(default_factory=list)

    def __iter__(self) -> Iterator[Numbered]:
        self._messages = list(self.rows)
        paths = self._paths() if self.how.parent else self._threads()
        used = {number for path in paths for number, _ in path}
        aside = [number for number, _ in self._messages if number not in used]
        self.on_end(self.how.sentence(len(used), len(paths), aside))
        for path in sorted(paths, key=lambda path: min(number for number, _ in path)):
            yield self._conversation(path)

    def _conversation(self, path: list[Numbered]) -> Numbered:
        how, first = self.how, path[0][1]
        turns = [_turn(row, how.speaker, how.content) for _, row in path]
        aside = {how.speaker, how.content, how.own, how.parent, how.order, *_KEPT_KEYS}
        same = {
            name: cell
            for name, cell in first.items()
            if name not in aside and all(row.get(name) == cell for _, row in path)
        }
        return min(number for number, _ in path), {"messages": turns, **same}

    def _threads(self) -> list[list[Numbered]]:
        found: dict[str, list[Numbered]] = {}
        for number, row in self._messages:
            found.setdefault(_key(row.get(self.how.thread)), []).append((number, row))
        if self.how.order:
            for path in found.values():
                path.sort(key=lambda one: _place(one[1].get(self.how.order)))
        return list(found.values())

    def _paths(self) -> list[list[Numbered]]:
        """The best path of each tree: from its root to the first answer of each message."""
        known = {_key(row.get(self.how.own)) for _, row in self._messages}
        roots: list[Numbered] = []
        replies: dict[str, list[Numbered]] = {}
        for number, row in self._messages:
            parent = row.get(self.how.parent)
            above = "" if parent in EMPTY else _key(parent)
            if above in known and above != _key(row.get(self.how.own)):
                replies.setdefault(above, []).append((number, row))
            else:
                roots.append((number, row))
        return [self._best(root, replies) for root in roots]

    def _best(self, root: Numbered, replies: dict[str, list[Numbered]]) -> list[Numbered]:
        path, seen = [root], {_key(root[1].get(self.how.own))}
        while below := replies.get(_key(path[-1][1].get(self.how.own))):
            best = min(below, key=lambda one: _rank(one[1]))
            if _key(best[1].get(self.how.own)) in seen:
                break  # a circle
            seen.add(_key(best[1].get(self.how.own)))
            path.append(best)
        return path


def _rank(row: dict) -> float:
    found = next((row[name] for name in row if plain_name(name) in _RANK), None)
    place = _place(found)
    return place[1] if place[0] == 0 else float("inf")


def _place(value: Any) -> tuple[int, float, str]:
    """A key to sort by: numbers by size, then texts."""
    if isinstance(value, bool) or value is None:
        return 1, 0.0, ""
    try:
        number = value.text if isinstance(value, NumberText) else value
        return 0, float(number), ""
    except (TypeError, ValueError):
        return 1, 0.0, str(value)


def chained(
    rows: Iterable[Numbered], first: Sequence[Numbered], on_end: Callable[[str], None]
) -> Iterator[Numbered] | None:
    """The conversations of all rows, if the first ones are single messages; None if not.

    `on_end` is given a sentence on what was done.
    """
    names = list(dict.fromkeys(name for _, row in first for name in row))
    how = find_thread([row for _, row in first], names)
    return iter(Chained(rows, how, on_end)) if how else None
