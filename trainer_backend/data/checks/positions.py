"""How many tokens of a row a model can read, by its settings, and findings about longer rows.

Some models have a table of positions: beyond it there are none. Others compute them, and have
been trained with so many. No model is loaded here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer_backend.data.checks.findings import Kind
from trainer_backend.recipe import label

BEYOND_TRAINED = 1 << 57  # flag of a row, beside those about content
# settings that say how long the table is, by model type; what the table has beside them is left out
TABLES = {
    **dict.fromkeys(("gpt2", "openai-gpt", "gpt_bigcode", "imagegpt", "ctrl"), "n_positions"),
    **dict.fromkeys(("gptj", "codegen"), "n_positions"),
    **dict.fromkeys(("gpt_neo", "opt", "biogpt", "bart", "mbart"), "max_position_embeddings"),
    **dict.fromkeys(("bert", "bert-generation", "electra"), "max_position_embeddings"),
    **dict.fromkeys(("megatron-bert", "ernie", "git", "trocr"), "max_position_embeddings"),
    **dict.fromkeys(("blenderbot", "prophetnet", "xlm"), "max_position_embeddings"),
    "mpt": "max_seq_len",
}
# positions are counted from the padding token on: so many of the table are never used
FROM_PADDING = ("roberta", "camembert", "xlm-roberta", "xlm-roberta-xl", "data2vec-text")
ROTARY = ("rope_parameters", "rope_theta", "rope_scaling", "rotary_emb_base", "rotary_pct")
LONGER_THAN_TRAINED = Kind(
    "beyond_trained",
    "warning",
    "The model was trained to read fewer tokens than these rows have.",
    f"Set “{label('max_length')}” to the model's context length, or split the rows: beyond it a "
    "model reads badly.",
    ("drop",),
)


@dataclass(frozen=True)
class Positions:
    """A model reads rows of at most `most` tokens; `fixed`: it has no position beyond them.

    Else it has been trained with so many, and reads longer rows badly.
    """

    most: int
    fixed: bool

    def finding(self) -> Kind:
        """The finding about longer rows, as it is named in a check."""
        if not self.fixed:
            what = f"Rows are longer than the {self.most:,} tokens this model was trained to read."
            fix = (
                f"Set “{label('max_length')}” to {self.most} or less, or split the rows: beyond "
                "its trained length a model reads badly."
            )
            return Kind("beyond_trained", "warning", what, fix, ("drop",))
        return Kind("no_positions", "error", *self.refusal(), ("drop",))

    def refusal(self) -> tuple[str, str]:
        """What is wrong with longer rows, and what to do."""
        return (
            f"Rows are longer than the {self.most:,} positions of this model: it cannot read them.",
            f"Set “{label('max_length')}” to {self.most} or less, or choose a model that reads "
            "longer rows.",
        )


def positions_of(config: Mapping[str, Any]) -> Positions | None:
    """Read a model's settings (config.json); None where nothing limits or is known."""
    inner = config.get("text_config")
    if isinstance(inner, Mapping):  # of a model that reads images
        config = {**config, **inner}
    kind = config.get("model_type")
    if kind in FROM_PADDING:
        table, padding = _number(config, "max_position_embeddings"), config.get("pad_token_id")
        return Positions(table - (padding or 0) - 1, True) if table else None
    if kind in TABLES:
        table = _number(config, TABLES[kind])
        return Positions(table, True) if table else None
    most = _number(config, "max_position_embeddings") or _number(config, "max_seq_len")
    if not most or config.get("alibi") or not any(config.get(name) for name in ROTARY):
        return None
    return Positions(max(most, _scaled(config, most)), False)


def _number(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _scaled(config: Mapping[str, Any], most: int) -> int:
    """The length that a scaling of the rotary positions reaches."""
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(scaling, Mapping) or not isinstance(scaling.get("factor"), int | float):
        return 0
    first = scaling.get("original_max_position_embeddings")
    return int((first if isinstance(first, int) else most) * scaling["factor"])
