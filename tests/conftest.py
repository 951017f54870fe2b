"""A tiny model and a small tokenizer, built in code: no test of ours downloads anything."""

import os
import signal
from pathlib import Path

# a test run begun in the background ignores Ctrl-C, and so would the programs its tests start
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("SFT_STUDIO_MEASURE", "off")  # a second of each worker that a test starts
if not any(Path(one).exists() for one in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")):
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported: kernels on the CPU

import pytest  # noqa: E402

NO_CARD = "needs a CUDA device (a dry run of its code: --device cpu)"

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = (
    "The capital of France is Paris. Who wrote Hamlet? William Shakespeare. "
    "Explain Newton's second law of motion: force equals mass times acceleration. "
    "List three benefits of exercise and one of sleep; answer briefly, please. 0123456789 "
)

TINY_LLAMA = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 3,
}


def build_tokenizer(template: str | None = CHATML):
    """A byte-level BPE tokenizer with a few hundred merges and ChatML's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([WORDS], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = template
    return tokenizer


def build_model(vocab_size: int = 400, seed: int = 0, **overrides):
    """A Llama of two layers and 32 dimensions, weights large enough that attention matters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {**TINY_LLAMA, "vocab_size": vocab_size, **overrides}
    return LlamaForCausalLM(LlamaConfig(**settings))


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="where tests marked gpu run; cpu is a dry run of their code",
    )


def pytest_runtest_setup(item):
    """Skip what is marked gpu where there is no CUDA device, unless its dry run was asked for."""
    if item.get_closest_marker("gpu") is None or item.config.getoption("--device") == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip(NO_CARD)


@pytest.fixture(scope="session")
def device(request) -> str:
    """The device of the tests marked gpu: “cuda”, or “cpu” in a dry run."""
    return request.config.getoption("--device")


@pytest.fixture(scope="session")
def tokenizer_files(tmp_path_factory):
    """The tokenizer saved once; tests load their own copy."""
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(tokenizer_files):
    """A fresh tokenizer with a ChatML template without generation markers."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_files)


@pytest.fixture
def tiny_model():
    """A fresh tiny Llama, always the same weights."""
    return build_model()


@pytest.fixture(scope="session")
def make_model():
    """Build a tiny Llama: make_model(seed=0, **config overrides)."""
    return build_model


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory):
    """A folder with the tiny model and its tokenizer, as from_pretrained wants it."""
    folder = tmp_path_factory.mktemp("tiny-model")
    build_model().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def pairs() -> list[dict]:
    """A few prompts and responses of different lengths."""
    return [
        {"prompt": "What is the capital of France?", "response": "Paris."},
        {"prompt": "Who wrote Hamlet?", "response": "William Shakespeare."},
        {
            "prompt": "Explain Newton's second law.",
            "response": "Force equals mass times acceleration.",
        },
        {"prompt": "List benefits of exercise.", "response": "Sleep, force and motion; briefly."},
        {"prompt": "Count.", "response": "0123456789"},
    ]


@pytest.fixture(scope="session")
def starter_model():
    """The folder of the real starter model, fetched once and kept beside the tests' environment."""
    from pathlib import Path

    from trainer_backend.home import open_home
    from trainer_backend.models.loaded.load import fetch_model
    from trainer_backend.recipe.recipe import STARTER_MODEL

    return fetch_model(open_home(Path(__file__).parent.parent / ".starter"), STARTER_MODEL)
