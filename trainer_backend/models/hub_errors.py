"""Errors of the Hub as UserErrors: down, login, gated, missing, busy, incomplete download.

Torch-free; nothing is downloaded here.
"""

import errno
from typing import Any

from huggingface_hub import errors as hub

from trainer_backend.disk import FULL
from trainer_backend.downloads import Damaged, Silence, time_in_words
from trainer_backend.errors import UserError

# by name, because the client has changed its HTTP package before
CUT_OFF = {"RemoteProtocolError", "ReadError", "IncompleteRead", "ChunkedEncodingError"}
NOT_REACHED = {"TransportError", "LocalEntryNotFoundError", "OfflineModeIsEnabled"}


def hub_failure(error: BaseException, where: str) -> UserError | None:
    """The UserError for an exception of the Hub's client; None when it is of another kind.

    The client's own message is left out: it may contain URLs with a token.
    """
    if failed := _transfer_failure(error, where) or write_failure(error, where):
        return failed
    if isinstance(error, hub.GatedRepoError):
        fix = "Accept the licence on its page on the Hub, set HF_TOKEN, then start again."
        what = "The licence must be accepted first."
        return UserError(what, where, fix, code="hub_gated")
    if isinstance(error, hub.RepositoryNotFoundError | hub.EntryNotFoundError):
        if isinstance(error, hub.LocalEntryNotFoundError):
            return hub_not_reached(where)
        fix = "Check the spelling (owner/name). Private repositories also need HF_TOKEN."
        return UserError("The Hub has no such model or file.", where, fix, code="hub_missing")
    if isinstance(error, hub.RevisionNotFoundError):
        fix = "Start a new run: it uses the current version."
        what = "The version this run began with is no longer on the Hub."
        return UserError(what, where, fix, code="hub_missing")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & CUT_OFF or _is_partial(error):
        fix = "Start again: the finished part is kept."
        return UserError("The download was interrupted.", where, fix, code="hub_partial")
    if kinds & NOT_REACHED:
        return hub_not_reached(where)
    return _by_status(error, where) if kinds & {"HfHubHTTPError", "HTTPStatusError"} else None


def _transfer_failure(error: BaseException, where: str) -> UserError | None:
    """The UserError for a download that was switched off, fell silent or arrived damaged."""
    if isinstance(error, hub.OfflineModeIsEnabled):
        fix = "Unset HF_HUB_OFFLINE, or choose the starter model or a folder on this machine."
        what = "The model Hub cannot be reached: HF_HUB_OFFLINE is set."
        return UserError(what, where, fix, code="hub_down")
    if isinstance(error, Silence):
        fix = "Start again, perhaps later: the finished part is kept."
        what = f"The download stopped: no data for {time_in_words(error.seconds)}."
        return UserError(what, where, fix, code="hub_partial")
    if isinstance(error, Damaged):
        fix = "Start again; it is downloaded again."
        what = "The download arrived damaged: its SHA-256 differs."
        return UserError(what, where, fix, code="hub_partial")
    return None


def write_failure(error: BaseException, where: str) -> UserError | None:
    """The UserError for a disk that takes no more; None for an error of another kind."""
    number = getattr(error, "errno", None)
    if number in FULL:
        fix = "Free some space, then start again: the finished part is kept."
        return UserError("The disk is full.", where, fix, code="disk_full")
    if number in (errno.EACCES, errno.EROFS):
        fix = "Set HF_HOME to a folder you can write to, then start again."
        place = f"{where}: {getattr(error, 'filename', None) or 'the folder for downloads'}"
        return UserError("The folder for downloads cannot be written to.", place, fix)
    return None


def _is_partial(error: BaseException) -> bool:
    return isinstance(error, OSError) and "consistency check failed" in str(error).lower()


def hub_not_reached(where: str) -> UserError:
    """The UserError for a Hub that does not answer."""
    fix = "Check the network, or choose the starter model or a folder on this machine."
    return UserError("The model Hub cannot be reached.", where, fix, code="hub_down")


def _by_status(error: BaseException, where: str) -> UserError:
    answer: Any = getattr(error, "response", None)
    status = answer.status_code if answer is not None else 0
    if status in (401, 403):
        fix = "Set HF_TOKEN to a token that may read it, then start again."
        what = f"The Hub does not accept the access token ({status})."
        return UserError(what, where, fix, code="hub_login")
    if status == 429:
        seconds = answer.headers.get("retry-after", "")
        wait = f"{seconds} seconds" if seconds.isdigit() else "a few minutes"
        fix = f"Wait {wait}, then start again. With HF_TOKEN set the limit is higher."
        return UserError("The Hub asks to wait: too many requests.", where, fix, code="hub_busy")
    if status == 404:
        fix = "Check the spelling (owner/name). Private repositories also need HF_TOKEN."
        return UserError("The Hub has no such model or file.", where, fix, code="hub_missing")
    fix = "Try again in a few minutes, or choose a folder on this machine."
    return UserError(
        f"The Hub reports an error ({status or 'no answer'}).", where, fix, code="hub_down"
    )
