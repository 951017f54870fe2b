"""The frame of a chat template: the texts it puts around system, user and assistant messages.

Found by rendering small conversations, so that a template built on it writes plain talk exactly as
the original does. How calls, tools and reasoning are written is not known here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from trainer_backend.tokens.templates.needs import REFUSALS
from trainer_backend.tokens.templates.opened import TAGS, opens_thought

USER, ANSWER, SYSTEM = "probe_question", "probe_answer", "probe_system"
REASONING = "probe_reasoning"
SECOND_USER, SECOND_ANSWER = "probe_other_question", "probe_other_answer"
Render = Callable[..., str]  # (messages, add_generation_prompt=False) -> text
# what a template may do to the outer white space of a text, as Jinja
TRIMS = ("{}", "{} | trim", "{}.strip('\\n')", "{}.lstrip('\\n')", "{}.rstrip()", "{}.lstrip()")


class NoFrame(Exception):
    """The template writes plain talk in a way that a frame does not describe."""


@dataclass(frozen=True)
class Turn:
    """An answer: the literal text before it, the rest of the prompt, then what is learned first."""

    stem: str  # also the beginning of the generation prompt
    rest: str  # the end of the generation prompt that answers lack (an open thought)
    lead: str  # between prompt and answer: a space, or an empty thought
    end: str  # learned: the token that ends the turn
    tail: str  # after it


@dataclass(frozen=True)
class Frame:
    """The texts around messages; `last` differs from `earlier` answers in some templates."""

    head: str  # before the first user message, where there is no system message
    system: tuple[str, str] | None  # around a first system text; None: no system role
    merged: bool  # the system text stands inside the user's message
    at_last: bool  # and that is the last user message
    later: tuple[str, str] | None  # around a system text in the middle
    default: str  # the system text of `head`
    user: tuple[str, str]
    earlier: Turn
    last: Turn
    trims: tuple[str, str, str]  # of TRIMS: system, user, assistant
    thought: tuple[str, str, str]  # the literal text before a thought, its beginning and its end
    image: str = ""  # the mark of an image part; empty where the template writes none


def find_frame(render: Render) -> Frame:
    """The frame of the template that `render` renders. Raises NoFrame."""
    one, two, alone, asked = _texts(render)
    head_user, after = _cut(one, USER)
    between, close = _cut(after, ANSWER)
    if not (asked.startswith(head_user + USER) and alone.startswith(head_user + USER)):
        raise NoFrame
    alone, asked = (text[len(head_user + USER) :] for text in (alone, asked))
    after_user = alone if asked.startswith(alone) else _whole(commonprefix([alone, asked]))
    _, rest = _cut(two, USER)
    first, rest = _cut(rest, ANSWER)
    middle, rest = _cut(rest, SECOND_USER)
    second, closed = _cut(rest, SECOND_ANSWER)
    if not between.startswith(after_user) or second != between or closed != close:
        raise NoFrame
    closing, user = _split_close(middle, close)
    if not head_user.endswith(user):
        raise NoFrame
    opening = asked[len(after_user) :]
    head = head_user[: len(head_user) - len(user)]
    plain = Frame(
        head=head,
        system=None,
        merged=False,
        at_last=False,
        later=None,
        default="",
        user=(user, after_user),
        earlier=_turn(opening, first[len(after_user) :], closing),
        last=_turn(opening, between[len(after_user) :], close),
        trims=_trims(render),
        thought=_thought(render, head_user + USER + after_user, opening),
        image=_image(render, head_user),
    )
    return _with_system(render, plain)


def talk(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    """Messages from (role, text) pairs."""
    return [{"role": role, "content": text} for role, text in turns]


PAIR = (("user", USER), ("assistant", ANSWER))
SECOND = (("user", SECOND_USER), ("assistant", SECOND_ANSWER))


def _texts(render: Render) -> tuple[str, str, str, str]:
    try:
        return (
            render(talk(*PAIR)),
            render(talk(*PAIR, *SECOND)),
            render(talk(PAIR[0])),
            render(talk(PAIR[0]), add_generation_prompt=True),
        )
    except REFUSALS as error:
        raise NoFrame from error


def _cut(text: str, mark: str) -> tuple[str, str]:
    before, found, after = text.partition(mark)
    if not found:
        raise NoFrame
    return before, after


def _split_close(middle: str, close: str) -> tuple[str, str]:
    """The end of an earlier answer, and the beginning of a user message."""
    if middle.startswith(close):
        return close, middle[len(close) :]
    shared = _whole(commonprefix([middle, close]))
    if not shared and ">" in middle:  # the last turn ends with another token
        shared = middle[: middle.index(">") + 1]
    return shared, middle[len(shared) :]


def _thought(render: Render, before: str, opening: str) -> tuple[str, str, str]:
    """How the reasoning of an answer is written; in <think> where the template writes none."""
    answer = {"role": "assistant", "content": ANSWER, "reasoning_content": REASONING}
    text = _try_messages(render, [*talk(PAIR[0]), answer | {"thinking": REASONING}])
    if text.startswith(before) and text.count(REASONING) == 1 and ANSWER in text:
        start, rest = _cut(text[len(before) :], REASONING)
        stem = commonprefix([start, opening])
        return stem, start[len(stem) :], rest.partition(ANSWER)[0]
    opened = next((one for one in TAGS if one in opening), "")
    if opened and TAGS[opened] not in opening:  # the prompt opens a thought
        return opening, "" if opening[-1:].isspace() else "\n", f"\n{TAGS[opened]}\n\n"
    return opening.partition(opened)[0] if opened else opening, "<think>\n", "\n</think>\n\n"


def _whole(text: str) -> str:
    """A text without the beginning of a mark at its end."""
    return text[: text.rfind("<")] if text.rfind("<") > text.rfind(">") else text


def _turn(opening: str, written: str, closing: str) -> Turn:
    stem = commonprefix([opening, written])
    rest, lead = opening[len(stem) :], written[len(stem) :]
    if rest and not opens_thought(rest):
        raise NoFrame
    end = closing.rstrip()
    return Turn(stem, rest, lead, end, closing[len(end) :])


def _image(render: Render, before: str) -> str:
    """What the template writes for an image at the beginning of a question."""
    text = _try_messages(render, with_image())
    printed = "'type'" in text or '"type"' in text  # the list itself
    if printed or USER not in text or not text.startswith(before):
        return ""
    return text.partition(USER)[0].removeprefix(before)


def with_image() -> list[dict[str, Any]]:
    """A question with an image before its text, and its answer."""
    parts = [{"type": "image"}, {"type": "text", "text": USER}]
    return [{"role": "user", "content": parts}, *talk(PAIR[1])]


def as_parts(content: Any) -> Any:
    """A text as a list of one part."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _trims(render: Render) -> tuple[str, str, str]:
    def of(role: str) -> str:
        around = {"user": f" \n {USER} \n ", "assistant": f" \n {ANSWER} \n "}
        turns = [(one, around[one] if one == role else text) for one, text in PAIR]
        if role == "system":
            turns = [(role, f" \n {SYSTEM} \n "), *PAIR]
        plain = [("system", SYSTEM), *PAIR] if role == "system" else PAIR
        wanted = {"user": USER, "assistant": ANSWER, "system": SYSTEM}[role]
        return _trim(_try(render, turns), _try(render, plain), wanted)

    return of("system"), of("user"), of("assistant")


def _trim(spaced: str, plain: str, text: str) -> str:
    raw = f" \n {text} \n "
    written = (raw, text, raw.strip("\n"), raw.lstrip("\n"), raw.rstrip(), raw.lstrip())
    for form, one in zip(TRIMS, written, strict=True):
        if spaced and spaced == plain.replace(text, one, 1):
            return form
    return TRIMS[0]


def _try(render: Render, turns: Any) -> str:
    return _try_messages(render, talk(*turns))


def _try_messages(render: Render, messages: list[dict[str, Any]]) -> str:
    try:
        return render(messages)
    except REFUSALS:
        return ""


def _with_system(render: Render, plain: Frame) -> Frame:
    """The same with what is written around system texts, where the template has them."""
    fields = {name: getattr(plain, name) for name in Frame.__dataclass_fields__}
    one = _try(render, (("system", SYSTEM), *PAIR))
    if SYSTEM in one:
        before, after = _cut(one, SYSTEM)
        between, _ = _cut(after, USER)
        user = plain.user[0]
        merged = not between.endswith(user) or before.endswith(user) and between.strip() == ""
        fields |= {"system": (before, between.removesuffix("" if merged else user))}
        fields |= {"merged": merged, "at_last": _moves(render)}
        if not merged:
            fields["default"] = _default(plain.head, before, fields["system"][1])
    two = _try(render, (*PAIR, ("system", SYSTEM), *SECOND))
    if SYSTEM in two and two.index(SYSTEM) > two.index(ANSWER):
        before, after = _cut(two.partition(ANSWER)[2], SYSTEM)
        between, _ = _cut(after, SECOND_USER)
        turn, user = plain.earlier, plain.user[0]
        if before.startswith(turn.end + turn.tail) and between.endswith(user):
            fields["later"] = (
                before[len(turn.end + turn.tail) :],
                between[: len(between) - len(user)],
            )
    return Frame(**fields)


def _moves(render: Render) -> bool:
    """Whether the system text stands in the last user message rather than the first."""
    text = _try(render, (("system", SYSTEM), *PAIR, *SECOND))
    return SYSTEM in text and ANSWER in text and text.index(SYSTEM) > text.index(ANSWER)


def _default(head: str, before: str, after: str) -> str:
    """The system text that a template writes of its own accord."""
    if head.startswith(before) and head.endswith(after) and len(head) > len(before + after):
        return head[len(before) : len(head) - len(after)]
    return ""


def plain_talks(image: bool = False) -> Iterator[list[dict[str, Any]]]:
    """Plain conversations that a template built on a frame must write as the original does."""
    if image:
        yield with_image()
    spaced = [(role, f" {text}\n") for role, text in PAIR]
    for turns in (PAIR, (*PAIR, *SECOND), spaced, (*PAIR, *SECOND, *PAIR)):
        yield talk(*turns)
        yield talk(("system", SYSTEM), *turns)
