"""Finding a model: on the Hub, in a folder, or the starter; and the errors of the Hub.

Torch-free: only the subpackage `loaded` holds models in memory.
"""

from trainer_backend.models.facts import ModelFacts, check_known, model_facts, require_model
from trainer_backend.models.hub_errors import hub_failure
from trainer_backend.models.snippets import snippet
from trainer_backend.models.source import hub_id, hub_revision, locate_model
