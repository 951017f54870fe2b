"""Tells a web address when a run ends, if the machine's owner asked for it.

Off unless the environment names SFT_STUDIO_WEBHOOK. The address is a secret: it is never kept.
"""

import json
import logging
import os
from urllib import error as web_errors
from urllib import request as web

from trainer_backend.runs.run import Run

VARIABLE = "SFT_STUDIO_WEBHOOK"
TIMEOUT_S = 5.0
FACTS = ("id", "name", "state", "step", "total_steps", "loss", "eval_loss")
logger = logging.getLogger(__name__)


def send_notice(run: Run) -> bool:
    """Post the run's end as JSON; whether it arrived. Follows no redirect, never raises for it."""
    address = os.environ.get(VARIABLE, "").strip()
    if not address.startswith(("https://", "http://")):
        return False
    summary = run.summary()
    facts = {name: summary.get(name) for name in FACTS}
    problem = summary.get("error") or {}
    sentence = f"Run “{facts['name']}”: {facts['state']}, step {facts['step']}."
    content = {**facts, "error": problem.get("what"), "text": sentence}
    message = web.Request(address, json.dumps(content).encode(), method="POST")
    message.add_header("Content-Type", "application/json")
    try:
        web.build_opener(_NoRedirect).open(message, timeout=TIMEOUT_S).close()
    except (web_errors.URLError, OSError, ValueError) as failure:  # its text holds the address
        logger.warning("the notice of the run's end was not sent: %s", type(failure).__name__)
        return False
    return True


class _NoRedirect(web.HTTPRedirectHandler):
    """An answer that sends us elsewhere is an error."""

    def redirect_request(self, *args, **kwargs) -> None:
        return None
