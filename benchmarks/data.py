"""The data room side by side with datasets.load_dataset and pandas, on the same rows.

Run: python -m benchmarks.data [ROWS] [--formats jsonl,csv,parquet] [--model FOLDER]. Each reader is
its own process. With a model folder, tokenising is compared with one-row-at-a-time `.map` as well.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = "the of and to in is that for it as was with be by on not he his but at are".split() * 40
MAP_ROWS = 5_000  # of a dataset, for the slow side of tokenising


def sentences(random_: random.Random):
    """Two made-up texts a row, about 110 characters in all, every row different."""
    syllables = [one + two for one in "bdfgklmnprstvz" for two in "aeiou"]
    words = ["".join(random_.choices(syllables, k=random_.randint(1, 4))) for _ in range(6_000)]
    words += SMALL
    while True:
        asked = " ".join(random_.choices(words, k=random_.randint(6, 14)))
        answer = " ".join(random_.choices(words, k=random_.randint(6, 20)))
        yield asked.capitalize() + "?", answer.capitalize() + "."


def make_rows(count: int, folder: Path, kind: str) -> Path:
    """Write `count` rows: chats as jsonl (about 215 bytes each), prompt and response otherwise."""
    made, path = sentences(random.Random(1)), folder / f"rows.{kind}"
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pairs = [next(made) for _ in range(count)]
        columns = dict(zip(("prompt", "response"), zip(*pairs, strict=True), strict=True))
        pq.write_table(pa.table(columns), path, row_group_size=20_000)
        return path
    with path.open("w", encoding="utf-8") as out:
        if kind == "csv":
            out.write("prompt,response\n")
        for _ in range(count):
            asked, answer = next(made)
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            line = f'"{asked}","{answer}"' if kind == "csv" else json.dumps({"messages": turns})
            out.write(line + "\n")
    return path


def read_ours(path: Path) -> int:
    """Only reading: every row as exact values."""
    from trainer_backend.data.readers import read_rows

    return sum(1 for _ in read_rows(path))


def store_ours(path: Path) -> int:
    """Reading, understanding, checking the whole file, storing; then pages, a search, the split."""
    from trainer_backend.data.store import create_dataset

    with tempfile.TemporaryDirectory() as home:
        dataset = create_dataset(Path(home), path)
        middle = dataset.num_rows // 2
        timed("page", dataset.page, middle, 25)
        timed("longest first", dataset.page, middle, 25, sort="longest")
        timed("search", dataset.page, 0, 25, query="zebra")
        timed("split", dataset.split, 0.05, 1)
        return dataset.num_examples


def timed(name: str, call, *args, **kwargs) -> None:
    """Say how long a call takes."""
    begin = time.perf_counter()
    call(*args, **kwargs)
    print(f"{name} {1000 * (time.perf_counter() - begin):.0f} ms", file=sys.stderr)


def first_rows(path: Path) -> int:
    """From the upload to the first rows for the page, through the reading process; then cancel."""
    from trainer_backend.data.reading import start_reading

    with tempfile.TemporaryDirectory() as home:
        begin = time.perf_counter()
        work = start_reading(Path(home), path)
        while not (rows := work.preview()) and not work.done:
            time.sleep(0.02)
        print(f"only {time.perf_counter() - begin:.3f} s", file=sys.stderr)
        work.cancel()
        return len(rows)


def tokens_ours(path: Path, model: str) -> int:
    """Every row as token counts, in as many processes as there are cores."""
    from transformers import AutoTokenizer

    from trainer_backend.data.store import create_dataset
    from trainer_backend.tokens.counts import token_lengths

    tokenizer = AutoTokenizer.from_pretrained(model)
    with tempfile.TemporaryDirectory() as home:
        dataset = create_dataset(Path(home), path)
        return timed_rows(lambda: len(token_lengths(dataset, tokenizer).rows))


def tokens_map(path: Path, model: str) -> int:
    """datasets' `.map`, a row at a time, on the first rows: template, tokens, nothing masked."""
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(model)
    lines = path.read_text(encoding="utf-8").splitlines()[:MAP_ROWS]
    rows = datasets.Dataset.from_list([json.loads(line) for line in lines])

    def encode(row: dict) -> dict:
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        return {"input_ids": tokenizer(text, add_special_tokens=False)["input_ids"]}

    return timed_rows(lambda: len(rows.map(encode, load_from_cache_file=False)))


def timed_rows(call) -> int:
    """Count only this call, not what had to be ready before it."""
    begin = time.perf_counter()
    count = call()
    print(f"only {time.perf_counter() - begin:.3f} s", file=sys.stderr)
    return count


def read_datasets(path: Path) -> int:
    """datasets.load_dataset into a fresh cache, then every row once."""
    import datasets

    datasets.disable_progress_bars()
    kind = "json" if path.suffix == ".jsonl" else path.suffix[1:]
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache)
        return sum(len(next(iter(batch.values()))) for batch in rows.iter(batch_size=1_000))


def read_pandas(path: Path) -> int:
    """The whole file into one frame."""
    import pandas

    readers = {
        ".jsonl": lambda: pandas.read_json(path, lines=True),
        ".csv": lambda: pandas.read_csv(path),
        ".parquet": lambda: pandas.read_parquet(path),
    }
    return len(readers[path.suffix]())


READERS = {
    "ours: first rows": first_rows,
    "ours: read": read_ours,
    "ours: read, check, store": store_ours,
    "datasets.load_dataset": read_datasets,
    "pandas": read_pandas,
}
COUNTERS = {"ours: count tokens": tokens_ours, "datasets .map, row by row": tokens_map}


def measure(reader: str, path: Path, *more: str) -> dict:
    """Run one reader in a process of its own; seconds include imports only of the reader's own."""
    command = [sys.executable, "-m", "benchmarks.data", "--one", reader, "--path", str(path), *more]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    lines = done.stderr.splitlines()
    found = json.loads(done.stdout.splitlines()[-1])
    for line in lines:
        if line.startswith("only "):
            found["seconds"] = float(line.split()[1])
    return found | {"notes": ", ".join(line for line in lines if line.endswith(" ms"))}


def run_one(reader: str, path: Path, model: str | None) -> None:
    """Child process: read, and print count, seconds and peak memory as JSON."""
    begin = time.perf_counter()
    count = READERS[reader](path) if reader in READERS else COUNTERS[reader](path, model)
    seconds = time.perf_counter() - begin
    spent = resource.getrusage(resource.RUSAGE_SELF)
    cpu = spent.ru_utime + spent.ru_stime
    print(json.dumps({"rows": count, "seconds": seconds, "peak_mb": peak_mb(), "cpu": cpu}))


def peak_mb() -> float:
    """Most memory of this process so far; getrusage would count what its parent had, too."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Compare all readers on each format and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="?", default=100_000)
    parser.add_argument("--formats", default="jsonl,csv,parquet")
    parser.add_argument("--model", help="folder of a model with a chat template, to count tokens")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_one(options.one, options.path, options.model)
    for kind in options.formats.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = make_rows(options.rows, Path(folder), kind)
            print(f"\n{options.rows:,} rows of {kind}, {path.stat().st_size / 2**20:,.0f} MB")
            for reader in READERS:
                show(reader, measure(reader, path))
            if options.model and kind == "jsonl":
                for reader in COUNTERS:
                    show(reader, measure(reader, path, "--model", options.model))


def show(reader: str, found: dict) -> None:
    """One line of the table."""
    if "error" in found:
        print(f"  {reader:26} {found['error'][:80]}")
        return
    speed = f"{found['rows'] / found['seconds']:>10,.0f} rows/s" if found["rows"] > 25 else " " * 17
    print(
        f"  {reader:26} {speed} {found['seconds']:>7.1f} s {found['cpu']:>7.1f} s CPU "
        f"{found['peak_mb']:>7,.0f} MB  {found['notes']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
