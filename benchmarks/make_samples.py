"""Writes the two bundled samples, presets/samples/*.jsonl: seeded, the same files each time.

Sentences and chats are made here from word lists of our own (Apache-2.0, as the project).
Run: python -m benchmarks.make_samples [FOLDER]
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

from support_words import (
    CHOICES,
    CLOSINGS,
    CUSTOMERS,
    GREETINGS,
    PRODUCTS,
    SYSTEM,
    THANKS,
    TOPICS,
)

NUM_ORDERS, NUM_CHATS = 480, 200
SAMPLES = Path(__file__).resolve().parent.parent / "presets" / "samples"

# Words that the starter model's tokenizer keeps whole, so that 20 steps are enough to copy them.
NAMES = """Anna Maria James Peter Alice David Sarah Max Ben Sam Tom Simon Robert Martin Daniel
Victor Henry Jack Lily Maya Ali Jane Mary Paul Mark Luke Adam Jacob Samuel Emily Michael Thomas
William George Charles Edward Frank Fred Anne Tim Dan Alex Chris Nick Kim Lee""".split()
SIZES = ("small", "medium", "large")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
KINDS = """oat apple berry orange lime rice corn nut date fig bean egg milk rose dark sweet fresh
brown white""".split()
ITEMS = """cakes cookies rolls pies sandwiches wraps pastries breads bars biscuits pancakes crackers
snacks""".split()
ORDERS = (
    "{customer} would like {quantity} {size} {item} for {day}.",
    "Please put {quantity} {size} {item} on the list for {customer}, to be collected on {day}.",
    "On {day}, {customer} wants {quantity} {size} {item}.",
    "Order for {customer}: {quantity} {size} {item}, pick-up on {day}.",
    "Hi, this is {customer}. Could I get {quantity} {size} {item} on {day}?",
    "{quantity} {size} {item} for {customer}, please. {day} is fine.",
    "For {day} we need {quantity} {size} {item}. The name is {customer}.",
    "Can you prepare {quantity} {size} {item} by {day}? It is for {customer}.",
    "{customer} called and asked for {quantity} {size} {item}, ready on {day}.",
    "My name is {customer} and I will come on {day} for {quantity} {size} {item}.",
)


def make_order(random_: random.Random) -> dict[str, str]:
    """One sentence and the JSON it means; every value is a word of the sentence."""
    order = {
        "customer": random_.choice(NAMES),
        "item": f"{random_.choice(KINDS)} {random_.choice(ITEMS)}",
        "quantity": random_.randint(2, 9),
        "size": random_.choice(SIZES),
        "day": random_.choice(DAYS),
    }
    sentence = random_.choice(ORDERS).format(**order)
    return {"prompt": sentence, "response": json.dumps(order, ensure_ascii=False)}


def make_chat(random_: random.Random) -> dict[str, list[dict[str, str]]]:
    """One support conversation of two or three exchanges, with its system message."""
    begins, asks, details, answer = TOPICS[random_.choice(sorted(TOPICS))]
    facts = {
        "name": random_.choice(CUSTOMERS),
        "product": random_.choice(PRODUCTS),
        "order": f"HP-{random_.randint(10_000, 99_999)}",
        "days": random_.randint(2, 9),
    } | {name: random_.choice(words) for name, words in CHOICES.items()}
    first = f"{random_.choice(GREETINGS)} this is {facts['name']}. {random_.choice(begins)}"
    turns = [_capital(first), asks, details, answer]
    if random_.random() < 0.6:
        turns += [random_.choice(THANKS), random_.choice(CLOSINGS)]
    roles = ("user", "assistant") * 3
    said = [
        {"role": role, "content": turn.format(**facts)}
        for role, turn in zip(roles, turns, strict=False)
    ]
    return {"messages": [{"role": "system", "content": SYSTEM}, *said]}


def _capital(text: str) -> str:
    """Begin each sentence with a capital: the openings are written to follow a comma."""
    parts = [part[0].upper() + part[1:] for part in text.split(". ")]
    head, mark, rest = ". ".join(parts).partition("! ")
    return head + mark + rest[:1].upper() + rest[1:]


def make_rows(make: Callable[[random.Random], dict], count: int, seed: int) -> list[dict]:
    """`count` different rows, the same ones for the same seed."""
    random_, rows = random.Random(seed), {}
    while len(rows) < count:
        row = make(random_)
        rows.setdefault(json.dumps(row), row)
    return list(rows.values())


def make_files() -> dict[str, str]:
    """The text of both sample files by name."""
    files = {
        "orders_to_json.jsonl": make_rows(make_order, NUM_ORDERS, seed=2026),
        "support_chats.jsonl": make_rows(make_chat, NUM_CHATS, seed=2027),
    }
    return {
        name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for name, rows in files.items()
    }


def main() -> None:
    """Write both files into FOLDER, or into presets/samples."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in make_files().items():
        (folder / name).write_text(text, encoding="utf-8")
        print(f"{folder / name}: {len(text) / 1024:.0f} KB")


if __name__ == "__main__":
    main()
