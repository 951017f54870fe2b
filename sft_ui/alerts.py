"""Turns UserError, and nothing else, into a message on the page or in the web API."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar
from xml.sax.saxutils import escape

import gradio as gr
from markupsafe import Markup

from trainer_backend.disk import for_people
from trainer_backend.errors import UserError

SECONDS_SHOWN = 15
BREAK = Markup("<br>")
WHAT = Markup("<b>{}</b>")
SHOWN = (UserError, OSError)  # of OSError only a full disk; the rest is raised again
P = ParamSpec("P")
T = TypeVar("T")


def toast(error: UserError) -> gr.Error:
    """The message for the page. Gradio shows no title, so all three parts are in the body."""
    return gr.Error(_body(error), duration=SECONDS_SHOWN, print_exception=False)


def answer(error: UserError) -> gr.Error:
    """The message for a script: what, where and fix as lines of text, quotes not escaped."""
    message = escape("\n".join((error.what, error.where, error.fix)))
    return gr.Error(message, title=str(Markup.escape(error.what)), print_exception=False)


def tell(error: UserError) -> None:
    """Show the message without ending the handler."""
    gr.Warning(_body(error), duration=SECONDS_SHOWN)


def _body(error: UserError) -> str:
    """The three parts as lines. Gradio renders them as HTML, so user text is escaped here."""
    lines = (WHAT.format(error.what), error.where, error.fix)
    return str(BREAK.join(line for line in lines if line))


def attempt(
    action: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> tuple[T | None, UserError | None]:
    """Call `action`; returns (result, None), or (None, error) when it raises UserError."""
    try:
        return action(*args, **kwargs), None
    except UserError as error:
        return None, error


def show_user_errors(
    handler: Callable[..., Any], shape: Callable[[UserError], gr.Error] = toast
) -> Callable[..., Any]:
    """Wrap a handler so that UserError, or a full disk, is raised as a gr.Error made by `shape`.

    Plain, async and generator handlers keep their kind, which Gradio inspects.
    """
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def streamed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from handler(*args, **kwargs)
            except SHOWN as error:
                raise shape(for_people(error)) from None

        return streamed
    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            try:
                return await handler(*args, **kwargs)
            except SHOWN as error:
                raise shape(for_people(error)) from None

        return awaited

    @functools.wraps(handler)
    def shown(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except SHOWN as error:
            raise shape(for_people(error)) from None

    return shown


def answer_user_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """`show_user_errors` for the web API, whose callers are scripts."""
    return show_user_errors(handler, answer)
