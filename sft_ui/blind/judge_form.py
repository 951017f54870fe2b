"""Whether a visitor may name a judge, and the judge they named.

A judge is asked by this machine, with a key of this machine. On a page that others can reach, a
visitor could send that key to a server of their own, or reach into this network: there only the
addresses that its owner listed are asked.
"""

import os
from collections.abc import Mapping

from starlette.requests import HTTPConnection

from sft_ui.access import is_loopback
from trainer_backend.comparison.judge import Judge, chat_address, new_judge
from trainer_backend.errors import UserError

VARIABLE = "SFT_STUDIO_JUDGES"
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


def is_personal(request: HTTPConnection, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the page is used on its own machine by whoever started it: no login, no proxy."""
    app, client = request.scope.get("app"), request.client
    if getattr(app, "auth", None) or environment.get("SPACE_ID") or client is None:
        return False
    headers = {str(name).lower() for name in request.headers}
    return is_loopback(str(client.host)) and not headers & set(FORWARDED)


def listed_judges(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The addresses that the owner allows on a shared page."""
    return [one.strip() for one in environment.get(VARIABLE, "").split(",") if one.strip()]


def judge_named(asked: Mapping[str, object], request: HTTPConnection) -> Judge:
    """The judge that a visitor entered. Raises UserError for one that may not be asked here."""
    judge = new_judge(*(str(asked.get(name) or "") for name in ("url", "model", "key_env")))
    known = []
    for one in listed_judges():
        try:
            known.append(chat_address(one))
        except UserError:
            continue  # a typing error of the owner allows nothing
    if judge.address not in known and not is_personal(request):
        raise UserError(
            "This judge may not be asked from a shared page.",
            judge.host,
            f"Whoever runs the app can list its address in {VARIABLE}, or use "
            "“python -m trainer_backend blind RUN --judge …” on the machine itself.",
        )
    return judge
