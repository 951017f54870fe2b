"""UserError becomes a message; other errors are not caught."""

import asyncio
import errno
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest

from sft_ui.alerts import attempt, show_user_errors
from trainer_backend.errors import UserError

WRONG = UserError("<b>what</b>", "<i>where</i>", "<u>fix</u>")


def fail():
    raise WRONG


def test_a_plain_handler_shows_an_escaped_message():
    with pytest.raises(gr.Error) as shown:
        show_user_errors(fail)()
    lines = ["<b>&lt;b&gt;what&lt;/b&gt;</b>", "&lt;i&gt;where&lt;/i&gt;", "&lt;u&gt;fix&lt;/u&gt;"]
    assert shown.value.message == "<br>".join(lines)
    assert shown.value.print_exception is False


def test_a_full_disk_is_reported_and_other_errors_are_not_hidden():
    def write(number: int):
        raise OSError(number, "words of the system")

    with pytest.raises(gr.Error, match="Delete old runs"):
        show_user_errors(write)(errno.ENOSPC)
    with pytest.raises(OSError, match="words of the system"):
        show_user_errors(write)(errno.EIO)


def test_a_generator_stays_a_generator():
    @show_user_errors
    def count():
        yield 1
        fail()

    steps = count()
    assert next(steps) == 1
    with pytest.raises(gr.Error):
        next(steps)


def test_closing_a_shown_generator_closes_the_handler():
    closed = []

    @show_user_errors
    def count():
        try:
            yield 1
        finally:
            closed.append(True)

    steps = count()
    next(steps)
    steps.close()
    assert closed == [True]


def test_an_async_handler_stays_async():
    @show_user_errors
    async def later():
        fail()

    with pytest.raises(gr.Error):
        # in its own thread: browser tests leave an event loop running in this one
        ThreadPoolExecutor().submit(asyncio.run, later()).result()


def test_our_own_mistakes_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        show_user_errors(lambda: 1 / 0)()
    with pytest.raises(ZeroDivisionError):
        attempt(lambda: 1 / 0)


def test_attempt_returns_the_result_or_the_error():
    assert attempt(lambda: 3) == (3, None)
    assert attempt(fail) == (None, WRONG)
