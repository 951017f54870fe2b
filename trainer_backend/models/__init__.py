"""Finding a model: the Hub, a folder, the starter; errors of the Hub in words.

Torch-free. Models in memory are one folder down.
"""

from trainer_backend.models.hub_errors import hub_failure
from trainer_backend.models.snippets import snippet
from trainer_backend.models.source import hub_id, hub_revision, locate_model

__all__ = [
    "hub_failure",
    "hub_id",
    "hub_revision",
    "locate_model",
    "snippet",
]
