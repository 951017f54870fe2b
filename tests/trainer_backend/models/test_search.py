"""Searching: words narrow the lists; the Hub's list holds what can be trained, with its sizes."""

import pytest

from trainer_backend.errors import UserError
from trainer_backend.models.facts import model_facts
from trainer_backend.models.search import models_here, search_hub, suggested

SIZES = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100}
WHOLE = {"config.json": SIZES, "tokenizer.json": {}, "model.safetensors": b"x"}
COUNTED = {"parameters": {"BF16": 3_000_000}, "total": 3_000_000}


def test_the_hub_lists_what_can_be_trained_and_counts_the_rest(home, online):
    online.add_model("o/tiny-one", WHOLE, safetensors=COUNTED, cardData={"license": "mit"})
    online.add_model("o/tiny-gated", WHOLE, gated="auto")
    online.add_model("o/tiny-gguf", {"tiny.gguf": b"x"})
    online.add_model("o/tiny-lora", {"adapter_config.json": {}, "adapter_model.safetensors": b"x"})
    online.add_model("o/other", WHOLE)
    found = search_hub(home, "tiny")
    assert [one.base_model for one in found.models] == ["o/tiny-one", "o/tiny-gated"]
    assert found.left_out == 2
    first = found.models[0]
    assert (first.parameters, first.weight_bytes, first.licence) == (3_000_000, 6_000_000, "mit")
    assert first.config["hidden_size"] == 64 and found.models[1].gated
    online.asked.clear()
    assert model_facts(home, "o/tiny-one").config["hidden_size"] == 64 and online.asked == []


def test_a_full_answer_is_not_replaced_by_a_line_of_a_list(home, online):
    online.add_model("o/tiny-one", WHOLE)
    full = model_facts(home, "o/tiny-one", ask_hub=True)
    search_hub(home, "tiny")
    assert model_facts(home, "o/tiny-one") == full


def test_a_search_without_a_network_says_so(home, cache):
    with pytest.raises(UserError, match="cannot be reached"):
        search_hub(home, "qwen")


def test_every_word_narrows_the_suggestions(home, cache):
    assert len(suggested("")) > 10 and models_here(home, "") == []
    assert [one.id for one in suggested("QWEN 0.6b")] == ["qwen3_0_6b"]
    assert suggested("qwen 0.6b", without=["Qwen/Qwen3-0.6B"]) == []
