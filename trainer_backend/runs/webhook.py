"""Webhook: posts the end of a run to the address in SFT_STUDIO_WEBHOOK, if it is set.

The address is a secret: it is neither stored nor logged.
"""

import json
import logging
import os
from typing import Any
from urllib import error as web_errors
from urllib import request as web

from trainer_backend.runs.run import Run

VARIABLE = "SFT_STUDIO_WEBHOOK"
TIMEOUT_S = 5.0
FACTS = ("id", "name", "state", "step", "total_steps", "loss", "eval_loss")
logger = logging.getLogger(__name__)


def send_notice(run: Run) -> bool:
    """Post the run's end as JSON; returns whether it arrived. Follows no redirect, never raises."""
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
    except (web_errors.URLError, OSError, ValueError) as failure:  # its text contains the address
        logger.warning("the webhook for the run's end failed: %s", type(failure).__name__)
        return False
    return True


class _NoRedirect(web.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None
