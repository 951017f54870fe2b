"""The names of the built-in chat templates; their texts lie with the code that renders them."""

BUILT_IN = {
    "chatml": "ChatML",
    "llama3": "Llama 3",
    "gemma": "Gemma",
    "mistral": "Mistral",
    "phi": "Phi",
    "zephyr": "Zephyr",
    "vicuna": "Vicuna",
    "alpaca": "Alpaca",
}
