"""What a chat template made of each kind of content of a row: flags in one integer, and findings.

Flags are set where a row is rendered; here they are named, counted and put into words. No text is
searched.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from trainer_backend.data.checks.changes import change_findings
from trainer_backend.data.checks.control import control_findings
from trainer_backend.data.checks.findings import Kind
from trainer_backend.data.checks.positions import BEYOND_TRAINED, LONGER_THAN_TRAINED
from trainer_backend.recipe import changed_to, label

KINDS = {  # the kinds of content a row can have, and their names in sentences
    "system": "system text",
    "prompt": "user text",
    "results": "tool results",
    "tools": "tool definitions",
    "calls": "tool calls",
    "reasoning": "reasoning",
    "answer": "answer text",
    "media": "images, audio or video",
}
FATES = ("has", "lost", "partly", "doubled", "not_learned")
NO_STOP = 1 << 8 * len(FATES)  # the learned text ends without a token at which the model stops
HALF = 0.5  # a kind written in a smaller share of the rows that have it is wholly lost
CODES_OF = {  # codes of the findings about lost content
    **{kind: f"{kind}_lost" for kind in ("system", "tools", "calls", "reasoning", "media")},
    **dict.fromkeys(("prompt", "results", "answer"), "text_lost"),
}
EFFECT = {  # of a kind that is lost
    "system": "The model is trained without these instructions.",
    "prompt": "The model learns answers to questions that it does not see.",
    "results": "The model learns answers without the results they rest on.",
    "tools": "The model is not told which tools it may call.",
    "calls": "Where the row makes a call, the model learns nothing.",
    "reasoning": "The model learns to answer without it.",
    "answer": "The model does not learn this text.",
    "media": "The model learns answers without what they are about.",
}
IN_PART = (
    "Some templates keep the reasoning of the last answer only, or write calls without their text. "
    "The token view of a row shows what the model reads."
)
TRAINING = ("chat_template", "training")
WITHOUT, LEAVE_OUT = ("lost_content", "train_without"), ("lost_content", "leave_out")
CHOICE_WORDS = {  # as the label of a button
    TRAINING: "Use the training template",
    WITHOUT: "Train without it",
    LEAVE_OUT: "Leave those rows out",
}
MOST_CHOICES = len(CHOICE_WORDS)
DOUBLED = Kind(
    "doubled",
    "warning",
    "",
    "The token view of a row shows both. Use a model with another chat template, or leave the rows "
    "out.",
    ("drop",),
)
UNLEARNED = Kind(
    "not_learned",
    "warning",
    "",
    "The chat template marks the text that is learned, and leaves this out. Use a model with "
    "another chat template.",
    ("drop",),
)
ENDLESS = Kind(
    "no_stop",
    "warning",
    "The model will not learn to stop: these rows teach no token that ends an answer.",
    f"Set “{label('eos_token')}” to the token that ends answers. Without one, answers go on until "
    "they are cut off.",
)
_AT = {kind: at for at, kind in enumerate(KINDS)}


def flag(kind: str, state: str = "has") -> int:
    """The bit of a state of a kind; "lost" is wholly lost, "partly" lost or changed in part."""
    return 1 << 8 * FATES.index(state) + _AT[kind]


def is_set(flags: np.ndarray, kind: str, state: str = "has") -> np.ndarray:
    """Which rows have this flag: bool [rows] of int64 [rows]."""
    return flags & flag(kind, state) != 0


def lost_kinds(flags: np.ndarray) -> list[str]:
    """The kinds that are written in fewer than half of the rows that have them."""
    found = []
    for kind in KINDS:
        has, lost = is_set(flags, kind), is_set(flags, kind, "lost")
        if has.any() and (has & ~lost).sum() < HALF * has.sum():
            found.append(kind)
    return found


def loses(flags: np.ndarray, kinds: Iterable[str] = tuple(KINDS)) -> np.ndarray:
    """Which rows have one of these kinds of which nothing is written: bool [rows]."""
    wanted = sum(flag(kind, "lost") for kind in kinds)
    return flags & wanted != 0


def choices_for(
    flags: np.ndarray, kinds: Collection[str], mended: Collection[str], decided: str = "ask"
) -> tuple[tuple[str, str], ...]:
    """The settings that decide about lost kinds, the most helpful first.

    `mended` are the kinds that the training template writes, `decided` what was chosen before.
    """
    found = [TRAINING] if set(kinds) & set(mended) else []
    if decided == "ask":
        found.append(WITHOUT)
    if decided != "leave_out" and not loses(flags).all():
        found.append(LEAVE_OUT)
    return tuple(found)


def question(
    flags: np.ndarray, kinds: list[str], mended: Collection[str], where: str
) -> dict[str, Any]:
    """What to ask about lost kinds: the arguments of a UserError whose offer has every choice."""
    pairs = choices_for(flags, kinds, mended)
    choices = [{name: value} for name, value in pairs]
    effects = " ".join(EFFECT[kind] for kind in kinds)
    return {
        "what": f"The chat template does not write the rows' {kinds_in_words(kinds)}.",
        "where": where,
        "fix": f"{effects} {in_words(pairs)}",
        "code": "content_lost",
        "offer": {"retry": choices[0], "choices": choices},
    }


def in_words(choices: Iterable[tuple[str, str]]) -> str:
    """“Set … to …, or … to ….” for settings that decide; "" for none."""
    ways = [changed_to({name: value}) for name, value in choices]
    return f"Set {', or '.join(ways)}." if ways else ""


def kinds_in_words(kinds: Iterable[str]) -> str:
    """“tool calls”, “tool definitions and tool calls”."""
    *others, last = [KINDS[kind] for kind in kinds]
    return f"{', '.join(others)} and {last}" if others else last


def content_findings(
    flags: np.ndarray, mended: Collection[str] = (), decided: str = "ask"
) -> list[tuple[Kind, np.ndarray]]:
    """Every finding about content and what was changed in it, each with its rows.

    Rows are bool [rows] of int64 [rows].

    A kind that is wholly lost is an error until its rows are `decided` about: it does not train.
    """
    found: list[tuple[Kind, np.ndarray]] = []
    if not flags.any():
        return found
    wholly = lost_kinds(flags) if decided == "ask" else []
    for kind in KINDS:
        lost, partly = is_set(flags, kind, "lost"), is_set(flags, kind, "partly")
        choices = choices_for(flags, [kind], mended, decided)
        if lost.any():
            found.append((_lost(kind, kind in wholly, choices), lost))
        if partly.any():
            found.append((_partly(kind, choices), partly))
    for state, kind_of in (("doubled", DOUBLED), ("not_learned", UNLEARNED)):
        kinds = [kind for kind in KINDS if is_set(flags, kind, state).any()]
        if kinds:
            rows = flags & sum(flag(kind, state) for kind in kinds) != 0
            found.append((replace(kind_of, what=_other(state, kinds)), rows))
    endless = flags & NO_STOP != 0
    found += [(ENDLESS, endless)] if endless.any() else []
    beyond = flags & BEYOND_TRAINED != 0
    found += [(LONGER_THAN_TRAINED, beyond)] if beyond.any() else []
    return [*found, *change_findings(flags), *control_findings(flags)]


def _lost(kind: str, wholly: bool, choices: tuple[tuple[str, str], ...]) -> Kind:
    return Kind(
        CODES_OF[kind],
        "error" if wholly else "warning",
        f"The chat template writes none of the {KINDS[kind]} of these rows.",
        f"{EFFECT[kind]} {in_words(choices)}".strip(),
        ("drop",),
        choices,
    )


def _partly(kind: str, choices: tuple[tuple[str, str], ...]) -> Kind:
    what = f"The chat template leaves out or changes a part of the {KINDS[kind]} of these rows."
    helps = tuple(one for one in choices if one == TRAINING)
    fix = f"{IN_PART} {in_words(helps)}" if helps else IN_PART
    return Kind(CODES_OF[kind], "warning", what, fix, ("drop",), helps)


def _other(state: str, kinds: list[str]) -> str:
    names = kinds_in_words(kinds)
    if state == "doubled":
        return f"The chat template writes the {names} of these rows twice."
    return (
        f"The model reads the {names} in the answers of these rows and does not learn to write it."
    )
