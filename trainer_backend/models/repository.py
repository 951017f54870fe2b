"""What is wrong with a repository of the Hub as a base model, judged by the Hub's answer."""

from fnmatch import fnmatch

from huggingface_hub import get_token

from trainer_backend.errors import Problem, UserError
from trainer_backend.models.architectures import architecture_problem
from trainer_backend.models.hub_answers import HubAnswer
from trainer_backend.models.source import TOKENIZER_FILES, adapter_error, gguf_error

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
TOKENIZERS = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"),
    *("tekken.json", "tokenizer_config.json"),
)


def repository_problem(answer: HubAnswer, where: str) -> Problem | None:
    """Why a repository cannot be trained with; None if nothing speaks against it."""
    if answer.gated and not answer.readable:
        return _gated(answer, where)
    error = _weights_error(answer, where)
    if error:
        return Problem("error", error.what, error.where, error.fix, code=error.code)
    return architecture_problem(answer.config, where)


def _gated(answer: HubAnswer, where: str) -> Problem:
    page = f"https://huggingface.co/{answer.base_model}"
    if get_token():
        what = "This model is gated, and the token of this machine may not read it."
        fix = f"Accept the licence on {page} with the token's account; some owners then decide."
    else:
        what = "This model is gated: its licence must be accepted first."
        fix = f"Accept the licence on {page}, then set HF_TOKEN to a token of that account."
    return Problem("error", what, where, fix, code="hub_gated")


def _weights_error(answer: HubAnswer, where: str) -> UserError | None:
    """The UserError for a repository without a model in safetensors files."""
    names = [name for name in answer.files if "/" not in name]
    weights = [name for name in names if name.endswith(".safetensors")]
    whole = [name for name in weights if not name.startswith("adapter_")]
    if "adapter_config.json" in names and not whole:
        return adapter_error(answer.original(), where)
    if not whole:
        return _other_weights(answer, names, where)
    if "config.json" not in names:
        what = "The repository has no config.json, which transformers needs to load a model."
        fix = "Choose a repository of a language model in the format of transformers."
        return UserError(what, where, fix, code="model_format")
    if not any(name in names for name in TOKENIZERS):
        what = "The repository has no tokenizer."
        fix = "Choose the model that it was made from, or another copy of it with its tokenizer."
        return UserError(what, where, fix, code="model_format")
    return None


def _other_weights(answer: HubAnswer, names: list[str], where: str) -> UserError:
    """The UserError for a repository without safetensors files, by what is there instead."""
    ggufs = sorted(name for name in answer.files if name.lower().endswith(".gguf"))
    if ggufs:
        return gguf_error(ggufs[0], answer.original(), where)
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    if pickles:
        what = f"The weights are only in pickle files ({pickles[0][:80]}), which may hold code."
        fix = "Choose a copy of this model whose weights are in .safetensors files."
        return UserError(what, where, fix, code="model_format")
    what = "The repository holds no weights of a language model in .safetensors files."
    fix = "Choose a repository with config.json and .safetensors files at its top."
    return UserError(what, where, fix, code="model_format")


def download_size(answer: HubAnswer) -> int:
    """Bytes of the files of a repository that are downloaded for training."""
    patterns = (*TOKENIZER_FILES, "*.safetensors")
    wanted = (n for n in answer.files if any(fnmatch(n, pattern) for pattern in patterns))
    return sum(answer.files[name] for name in wanted)


def weight_size(answer: HubAnswer) -> int:
    """Bytes of the weights that are loaded; a second copy in Mistral's own layout is not."""
    files = {n: size for n, size in answer.files.items() if n.endswith(".safetensors")}
    top = {name: size for name, size in files.items() if "/" not in name}
    loaded = {name: size for name, size in top.items() if not name.startswith("consolidated")}
    return sum((loaded or top).values())
