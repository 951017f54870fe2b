"""What went wrong with the Hub, in words: down, login, gated, missing, busy, half a download.

Torch-free; who downloads what is model_source.py and data/hub.py.
"""

from huggingface_hub import errors as hub

from trainer_backend.errors import UserError

# the client's HTTP package has changed its name before: its exceptions are known by theirs
CUT_OFF = {"RemoteProtocolError", "ReadError", "IncompleteRead", "ChunkedEncodingError"}
NOT_REACHED = {"TransportError", "LocalEntryNotFoundError", "OfflineModeIsEnabled"}


def hub_failure(error: BaseException, where: str) -> UserError | None:
    """The words for an exception of the Hub's client; None when it is of another kind.

    The client's own text is left out: it may hold addresses with a token.
    """
    if isinstance(error, hub.GatedRepoError):
        fix = "Accept the licence on its page on the Hub, set HF_TOKEN, then start again."
        what = "This needs you to accept its licence first."
        return UserError(what, where, fix, code="hub_gated")
    if isinstance(error, hub.RepositoryNotFoundError | hub.EntryNotFoundError):
        if isinstance(error, hub.LocalEntryNotFoundError):
            return _not_reached(where)
        fix = "Check the spelling (owner/name). Something private also needs HF_TOKEN."
        return UserError("The Hub has no such model or file.", where, fix, code="hub_missing")
    if isinstance(error, hub.RevisionNotFoundError):
        fix = "Start a new run: it takes the version that is there now."
        what = "The version this run began with is no longer on the Hub."
        return UserError(what, where, fix, code="hub_missing")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & CUT_OFF or _is_partial(error):
        fix = "Start again: what is here already is kept."
        return UserError("The download ended early.", where, fix, code="hub_partial")
    if kinds & NOT_REACHED:
        return _not_reached(where)
    return _by_status(error, where) if kinds & {"HfHubHTTPError", "HTTPStatusError"} else None


def _is_partial(error: BaseException) -> bool:
    return isinstance(error, OSError) and "consistency check failed" in str(error).lower()


def _not_reached(where: str) -> UserError:
    fix = "Check the network, or choose the starter model or a folder on this machine."
    return UserError("The model Hub cannot be reached.", where, fix, code="hub_down")


def _by_status(error: BaseException, where: str) -> UserError:
    answer = getattr(error, "response", None)
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
        fix = "Check the spelling (owner/name). Something private also needs HF_TOKEN."
        return UserError("The Hub has no such model or file.", where, fix, code="hub_missing")
    fix = "Try again in a few minutes, or choose a folder on this machine."
    return UserError(
        f"The Hub has a problem ({status or 'no answer'}).", where, fix, code="hub_down"
    )
