"""Flags of content: which kinds are wholly lost, what is found, and which choices help."""

import numpy as np
import pytest

from trainer_backend.data.checks.content import (
    FATES,
    KINDS,
    NO_STOP,
    choices_for,
    content_findings,
    flag,
    loses,
    lost_kinds,
)

HAS, LOST = flag("calls"), flag("calls") | flag("calls", "lost")
PARTLY = flag("calls") | flag("calls", "partly")


def flags(*rows: int) -> np.ndarray:
    return np.array(rows, np.int64)


def test_every_flag_is_another_bit():
    bits = [flag(kind, state) for kind in KINDS for state in FATES] + [NO_STOP]
    assert len(set(bits)) == len(bits) == sum(bits).bit_count()


@pytest.mark.parametrize(
    "rows, lost",
    [
        ((LOST, LOST, HAS), ["calls"]),
        ((LOST, HAS), []),  # half of them are written
        ((LOST, PARTLY), []),  # in part is written
        ((LOST, 0, 0, 0), ["calls"]),  # rows without calls do not count
        ((0, 0), []),
        ((), []),
    ],
)
def test_a_kind_is_wholly_lost_when_most_rows_that_have_it_lose_it(rows, lost):
    assert lost_kinds(flags(*rows)) == lost


def test_only_choices_that_help_are_offered():
    some, every = flags(LOST, 0), flags(LOST, LOST)
    without, leave = ("lost_content", "train_without"), ("lost_content", "leave_out")
    assert choices_for(some, ["calls"], []) == (without, leave)
    assert choices_for(every, ["calls"], []) == (without,)  # nothing would be left
    training = ("chat_template", "training")
    assert choices_for(some, ["calls"], ["calls"])[0] == training
    assert choices_for(some, ["calls"], ["tools"]) == (without, leave)
    assert choices_for(some, ["calls"], [], "train_without") == (leave,)


def test_a_wholly_lost_kind_is_an_error_until_it_is_decided():
    found = dict(content_findings(flags(LOST, LOST, 0)))
    (kind,) = found
    assert (kind.code, kind.severity) == ("calls_lost", "error")
    assert found[kind].tolist() == [True, True, False]
    (decided, _), *more = content_findings(flags(LOST, LOST, 0), (), "train_without")
    assert decided.severity == "warning" and not more
    assert "Train without it" not in decided.fix


@pytest.mark.parametrize(
    "row, code",
    [
        (flag("system") | flag("system", "doubled"), "doubled"),
        (flag("answer") | flag("answer", "not_learned"), "not_learned"),
        (flag("answer") | flag("answer", "partly"), "text_lost"),
        (flag("media") | flag("media", "lost"), "media_lost"),
        (flag("answer") | NO_STOP, "no_stop"),
    ],
)
def test_every_state_has_a_finding_with_its_rows(row, code):
    ((kind, which),) = content_findings(flags(flag("answer"), row))
    assert kind.code == code and which.tolist() == [False, True]
    assert kind.what.endswith(".") and kind.fix.endswith(".")


def test_rows_that_lose_something_are_left_out():
    assert loses(flags(LOST, HAS, PARTLY, flag("tools", "lost"))).tolist() == [1, 0, 0, 1]
