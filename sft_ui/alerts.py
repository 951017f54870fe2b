"""A user's mistake becomes a message on the page, and nothing else does.

Mistakes are found in trainer_backend; this is one of the two places that catch UserError.
"""

import functools
import inspect
from collections.abc import Callable
from xml.sax.saxutils import escape

import gradio as gr
from markupsafe import Markup

from trainer_backend.disk import for_people
from trainer_backend.errors import UserError

SECONDS_SHOWN = 15
BREAK = Markup("<br>")
SHOWN = (UserError, OSError)  # of the second kind only that the disk is full


def toast(error: UserError) -> gr.Error:
    """The message as Gradio shows it. Gradio renders it as HTML, so user text is escaped here."""
    message = str(BREAK.join((error.where, error.fix)))
    title = str(Markup.escape(error.what))
    return gr.Error(message, title=title, duration=SECONDS_SHOWN, print_exception=False)


def answer(error: UserError) -> gr.Error:
    """The message as a script gets it: all of it in lines of text, quotes left as they are."""
    message = escape("\n".join((error.what, error.where, error.fix)))
    return gr.Error(message, title=str(Markup.escape(error.what)), print_exception=False)


def tell(error: UserError) -> None:
    """Show the message without ending the handler."""
    message = BREAK.join((error.what, error.where, error.fix))
    gr.Warning(str(message), duration=SECONDS_SHOWN)


def attempt(action: Callable, *args, **kwargs) -> tuple[object, UserError | None]:
    """Call something that may raise UserError; return (result, None) or (None, the error)."""
    try:
        return action(*args, **kwargs), None
    except UserError as error:
        return None, error


def show_user_errors(handler: Callable, shape: Callable[[UserError], gr.Error] = toast) -> Callable:
    """Turn a handler's UserError, or a full disk, into a message of some shape.

    Plain, async and generator handlers keep their kind: Gradio looks at it.
    """
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def shown(*args, **kwargs):
            try:
                yield from handler(*args, **kwargs)
            except SHOWN as error:
                raise shape(for_people(error)) from None

    elif inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def shown(*args, **kwargs):
            try:
                return await handler(*args, **kwargs)
            except SHOWN as error:
                raise shape(for_people(error)) from None

    else:

        @functools.wraps(handler)
        def shown(*args, **kwargs):
            try:
                return handler(*args, **kwargs)
            except SHOWN as error:
                raise shape(for_people(error)) from None

    return shown


def answer_user_errors(handler: Callable) -> Callable:
    """The same for what scripts call."""
    return show_user_errors(handler, answer)
