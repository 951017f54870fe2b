"""Reading speed side by side: our data room, datasets.load_dataset and pandas on the same rows.

Run: python benchmarks/data.py [ROWS] [--formats jsonl,csv,parquet]. Each reader is its own process.
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
WORDS = """the of and to in is that for it as was with be by on not he his but at are this have from
or had an they which one you were all her she there would their we him been has when who will more
no if out answer question because model number order please thanks value table column""".split()


def make_rows(count: int, folder: Path, kind: str) -> Path:
    """Write `count` prompt/response rows of about 200 bytes."""
    random_ = random.Random(1)
    texts = [" ".join(random_.choices(WORDS, k=18)) for _ in range(5_000)]
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            "prompt": [f"{at}: {texts[at % 5_000]}" for at in range(count)],
            "response": [texts[(at * 7) % 5_000] for at in range(count)],
        }
        pq.write_table(pa.table(columns), path, row_group_size=20_000)
        return path
    with path.open("w", encoding="utf-8") as out:
        if kind == "csv":
            out.write("prompt,response\n")
        for at in range(count):
            prompt, response = f"{at}: {texts[at % 5_000]}", texts[(at * 7) % 5_000]
            row = json.dumps({"prompt": prompt, "response": response})
            out.write(f'"{prompt}","{response}"\n' if kind == "csv" else row + "\n")
    return path


def read_ours(path: Path) -> int:
    """Only reading: every row as exact values."""
    from trainer_backend.data.files import read_rows

    return sum(1 for _ in read_rows(path))


def store_ours(path: Path) -> int:
    """Reading, understanding, checking the whole file, storing; then a page and a search."""
    from trainer_backend.data.store import create_dataset

    with tempfile.TemporaryDirectory() as home:
        dataset = create_dataset(Path(home), path)
        for said, query, start in (("page", "", dataset.num_rows // 2), ("search", "99: the", 0)):
            begin = time.perf_counter()
            dataset.page(start, 25, query=query)
            print(f"{said} {1000 * (time.perf_counter() - begin):.0f} ms", file=sys.stderr)
        begin = time.perf_counter()
        dataset.split(0.05, 1)
        print(f"split {1000 * (time.perf_counter() - begin):.0f} ms", file=sys.stderr)
        return dataset.num_examples


def read_datasets(path: Path) -> int:
    """datasets.load_dataset into a fresh cache, then every row once."""
    import datasets

    datasets.disable_progress_bars()
    kind = "json" if path.suffix == ".jsonl" else path.suffix[1:]
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache)
        return sum(len(batch["prompt"]) for batch in rows.iter(batch_size=1_000))


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
    "ours: read": read_ours,
    "ours: read, check, store": store_ours,
    "datasets.load_dataset": read_datasets,
    "pandas": read_pandas,
}


def measure(reader: str, path: Path) -> dict:
    """Run one reader in a process of its own; seconds include imports only of the reader's own."""
    command = [sys.executable, __file__, "--one", reader, "--path", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    notes = [line for line in done.stderr.splitlines() if line.endswith(" ms")]
    return json.loads(done.stdout) | {"notes": ", ".join(notes)}


def run_one(reader: str, path: Path) -> None:
    """Child process: read, and print count, seconds and peak memory as JSON."""
    sys.path.insert(0, str(ROOT))
    begin = time.perf_counter()
    count = READERS[reader](path)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": count, "seconds": seconds, "peak_mb": peak}))


def main() -> None:
    """Compare all readers on each format and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="?", default=100_000)
    parser.add_argument("--formats", default="jsonl,csv,parquet")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_one(options.one, options.path)
    for kind in options.formats.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = make_rows(options.rows, Path(folder), kind)
            print(f"\n{options.rows:,} rows of {kind}, {path.stat().st_size / 2**20:,.0f} MB")
            compare(path)


def compare(path: Path) -> None:
    """Print rows per second, peak memory and the ratio to our reader."""
    ours = None
    for reader in READERS:
        found = measure(reader, path)
        if "error" in found:
            print(f"  {reader:26} {found['error'][:80]}")
            continue
        speed = found["rows"] / found["seconds"]
        ours = ours or speed
        print(
            f"  {reader:26} {speed:>10,.0f} rows/s {found['seconds']:>7.1f} s "
            f"{found['peak_mb']:>7,.0f} MB  x{speed / ours:.2f}  {found['notes']}"
        )


if __name__ == "__main__":
    main()
