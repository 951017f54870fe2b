"""The estimate of a run for the page: asked with what the page knows, and never in its way."""

import logging

from sft_ui.alerts import attempt
from sft_ui.context import Studio
from sft_ui.sizes import machine_now
from trainer_backend.data.store import LengthReport, open_dataset
from trainer_backend.estimation import Estimate, estimate
from trainer_backend.recipe import Recipe

logger = logging.getLogger(__name__)


def estimate_now(
    studio: Studio, dataset_id: str, recipe: Recipe | None, lengths: LengthReport | None
) -> Estimate | None:
    """What a run would take here; None when that cannot be worked out (the log says why)."""
    if recipe is None:
        return None
    dataset, _ = attempt(open_dataset, studio.home, dataset_id) if dataset_id else (None, None)
    try:
        return estimate(recipe, dataset, machine_now(), home=studio.home, lengths=lengths)
    except Exception:  # noqa: BLE001 - advice only: whatever is wrong in it, a run can be started
        logger.exception("The estimate failed")
        return None
