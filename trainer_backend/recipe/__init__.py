"""The settings of a run: the recipe, its presets, and how both are resolved on a machine."""

from trainer_backend.recipe.labels import LORA_FIELDS, changed_to, label, named, named_fields
from trainer_backend.recipe.presets import (
    ModelPreset,
    differences,
    model_presets,
    recipe_from,
    recipe_from_request,
    recipe_presets,
    resolve_recipe,
    samples,
)
from trainer_backend.recipe.recipe import (
    SETTINGS,
    STARTER_MODEL,
    Recipe,
    parse_settings,
)
from trainer_backend.recipe.recipe_file import read_recipe, recipe_text, save_recipe
from trainer_backend.recipe.resolve import (
    check_recipe,
    effective_batch_size,
    is_relevant,
    num_processes,
    total_steps,
)
from trainer_backend.recipe.settings import is_template_text
from trainer_backend.recipe.suggestion import Data, suggested
