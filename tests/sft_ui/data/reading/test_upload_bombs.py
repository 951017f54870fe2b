"""Decompression bombs: the reader refuses them, and the web process does not grow."""

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[4]
# Parquet files with the columns prompt and response, compressed once more: creating them here would
# take the very memory they are refused for.
BOMBS = {
    # one row, the prompt 900 MB of one letter: 28 KB
    "one.parquet": (
        "eNrt3TFvEzEUwHGfUx0RZKCDT3dShiyJMqQtqZSIoiy+kioVUNJARdvtEkWFIc1xCUQwdWJkYkKMRUxk40sw"
        "MTMxwoCE2BHYlyZkYGb6W/pd7Gf7+UX+AG7rTlUJ9er83WdXfXqfqShphq5y83VhWvnDxq+z1uVv57U3QhxK"
        "E5GOMKPIET9/b/2QUlyNAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAgP/pXutSpITy"
        "VHn58a2y0/Wd7urqxSNchStHQsze33LMt6tWgkZN+O6o97A/iNSKULmi9N04GQ7icVHczptFaSib9Efx8HTU"
        "vwh6MsgHlZLIq1xQdEUw36NynvQ+2mfAvBfTTCnbqAsR5E05QknR8M7sTOAGpbSIpe2L/GmCttctvZxmGkv1"
        "LyWRiwTe67f2JFnKel+nGbPGz+lO5+6DG7P/439xNmyra9v29azd0nqiwxO9o/WJ3j5JY2Go9R3b2dZ6Nw38"
        "/dWzbthcjPfum6TXTae5MwtO7LepF80mDZ8dH+5Nupu158fpyTd3bSlm0YGdN+e3bB1pXeF8X/Pg3/mO0mBv"
        "sDXutfbnW9J54RfiKHn8pD9e68XxWpQkw0nhaT8ZPRqeFjbr69fWq0HFXJi9s+/mytu6U/0DH5SbRg=="
    ),
    # one row, both cells 700 MB of one letter: 43 KB
    "two.parquet": (
        "eNrt3LFu00AYwPEvJ2qVKgOLLVvKkCUBpLQllRq1KMu5BKUCShuoKN1MZKUMaYyTNoKpz4C6USQegBWhPgIM"
        "GRkRbwBiR3Bnk4CQ4AHQ/7N+9t13vu/O8n7bulN3xT09e/dizn01UTVXma7jOqWGmLjyZvnbSXvh8vnVM5E9"
        "ZTKqIKYXFeTr9/UvSsmlCAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAPgf3Fu7GHFUJwAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAJAf1XkhaK6K7wy7B3Hf9MQtVpTvJOmgn4wqcrskkqfm03iYDA6H8c+k"
        "p4JSUKtKyS0GFUeC6Ry36CnvvT390/swUdX5ZkMkKLliLiVN78SOBE5QFXv252/TZ/X/KPBxov5Zwjs9f/52"
        "wTMrea9fzpn3/KLudO4+uJ5/kf+psGyjoW3s6DxuaT3WYU/f1LqnN3pZLgy1vmMbG1pvZolfT503w9asv3Xf"
        "FF0zjdZunhzbe0vPwhYNn+7vbY0fraw+289WvrFpt2Je2rXjZv223Ue2r3A672/1HmbJbn991G3vTKdk4+KX"
        "kyh9chSPFrtJshil6WBcPo7T4ePBYXmlsXRtqR7UzC+zf+1zQWRbd+o/AH1oWi8="
    ),
    # 2,000 rows that name one text of 1 MB in a dictionary: 782 bytes
    "named.parquet": (
        "eNp1U01v00AQnTXFikoEaaW1vJKlWEK1gpR+gVo1qAfGCZBCBUmkgnp0LMsg5cN1Qo1y6pFy5sjBP4Ar/6M/"
        "AXFCXLlwAMHs2glGlJG84515895babeDvW2+xN+cz/jgkGscVgFqHzd/nrVb7g0Y0OYeZY/B91+NC02DinfZ"
        "d3N12ePADV6r87TKK1znurULkHHZ144BrtAmrTKWVoH0lrlVVLOv3gJghOhfwlJjfZP1V1b+yyb2d8DUJ/6L"
        "YOjxJeDlNc3Uo3g8jKZrcGgRVJVKcTCJxqNJkBeNtCosUXfA4mWxA3pFzKd4mXrG1/OZ8Yk575hTkmcRdfIN"
        "XANaKpT2jbOLD9+uC104ZIX4ikQLrYzqtfGeOanmfGHF8/zLSI4WdMbntzMqOCXjhwbCMsvY6z19fjc7pplq"
        "mzIaKKOLWTxGTNAN8QFiiM1Q1VwX8b78CTqETxS0KZdnqtvN5ilT8SGijy1Vz4dU90iB2n9J5STtRwP/jnva"
        "Hz0ZZA5aJLLXlSYKfIq/wHckU29B8qeFeCzFE3/YmPptqRXmkG6eE7kcyNxUlsL5oHuQ4+bWwbQjLz55FUzX"
        "/Sha9+J4nNinQTx5OR7Zt3c3tja2RZ3ugbwKLQ2gQy/hN6zFrO4="
    ),
}
PLAY = """
import json, resource, sys, time
from pathlib import Path
from sft_ui.data.reading.readings import shown_again
from sft_ui.data.reading.readings import failure
from sft_ui.data.reading.readings import Readings
from trainer_backend.data.store.lookup import open_dataset
from trainer_backend.errors import UserError
from sft_ui.data.reading.columns import example_preview
from sft_ui.data.rows.table import View, page

def seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

readings, said = Readings(Path(sys.argv[1])), {}
for path in map(Path, sys.argv[2:]):
    before, began = peak(), seconds()
    reading = readings.read([path])
    while readings.watch(reading)["state"] == "reading":
        time.sleep(0.02)
    try:
        dataset = readings.result(reading)
        what, card = "", str(page(dataset, 0, View())) + example_preview(dataset)
    except UserError as error:
        what, card = error.what, failure(readings, reading, error)
    shown_again(readings, reading)
    used = {"seconds": seconds() - began, "mb": peak() - before}
    said[path.name] = {"what": what, "card": card, **used}
print(json.dumps(said))
"""


def play(home: Path, files: list[Path]) -> dict:
    """The messages and the memory of a process that handles each upload as the web process does."""
    done = subprocess.run(
        [sys.executable, "-c", PLAY, str(home), *map(str, files)],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def bombs(tmp_path):
    for name, packed in BOMBS.items():
        (tmp_path / name).write_bytes(zlib.decompress(base64.b64decode(packed)))
    return [tmp_path / name for name in BOMBS]


def test_a_bomb_is_refused_and_costs_the_web_process_nothing(home, bombs):
    for name, said in play(home, bombs).items():
        assert "unpacks to more than" in said["what"] and said["what"] in said["card"], name
        assert said["mb"] < 50, (name, said)
        assert said["seconds"] < 5, (name, said)


def test_long_texts_that_are_kept_cost_the_web_process_little(home, tmp_path):
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 30, pa.int32()), ["long " * 200_000])
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table({"prompt": ["Why?"] * 30, "response": text}), path)
    said = play(home, [path])[path.name]
    assert said["what"] == "" and "Why?" in said["card"] and said["mb"] < 50
