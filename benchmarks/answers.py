"""Answers a second: held-out prompts of quick_try, by base and tuned model, before and after.

Before: transformers' generate() in padded batches of 20, as the answer check had it. After: the
engine of evaluations. Both in turn, with the same limit of tokens, in one process.

Run: python -m benchmarks.answers [--home DIR] [--rows 40] [--threads N]. Without a run in the home
quick_try trains first.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def measured(work: Callable[[], list]) -> tuple[float, float, list]:
    """Seconds by the clock and of all cores, and what the work returns."""
    began, worked = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - began, time.process_time() - worked, found


def main() -> None:
    """Print one table: a line for each model and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        compare(Path(options.home or temporary), options.rows, options.threads)


def compare(home_dir: Path, rows: int, threads: int | None) -> None:
    """Answer the same prompts in both ways and print what they took."""
    import torch

    from trainer_backend.evaluation.engine.answering import answer_text, write_answers
    from trainer_backend.evaluation.engine.questions import question, ready_questions
    from trainer_backend.evaluation.engine.sides import open_sides
    from trainer_backend.evaluation.limits import answer_limit, spread
    from trainer_backend.home import open_home
    from trainer_backend.models.loaded.generate import answer_batch
    from trainer_backend.models.loaded.load import load_tokenizer
    from trainer_backend.runs.create import list_runs
    from trainer_backend.runs.target import run_target
    from trainer_backend.tokens.training_rows import training_row

    if threads:
        torch.set_num_threads(threads)
    home = open_home(home_dir)
    if not [one for one in list_runs(home) if one.result()]:
        train = [sys.executable, "-m", "trainer_backend", "train", "quick_try", "--home", str(home)]
        subprocess.run(train, cwd=ROOT, check=True, capture_output=True)
    run = next(one for one in list_runs(home) if one.result())
    stored, held = run.dataset(), run.split()[1]
    at = spread(torch.tensor(held).numpy(), rows).tolist()
    sides, folder = open_sides(home, run_target(run), lambda *_, **__: None)
    tokenizer = load_tokenizer(folder)
    found = [question(training_row(one, "", stored)) for one in stored.examples(at)]
    ready, _ = ready_questions(found, at, tokenizer, stored)
    prompts, limit = [r.prompt.ids for r in ready], answer_limit([r.tokens for r in ready])
    print(f"{len(prompts)} prompts of {len(prompts[0])} tokens and more, answers of up to {limit}.")
    print("| model | way | seconds | processor seconds | answers/s |\n|---|---|---|---|---|")
    for which, side in (("base", sides.base), ("tuned", sides.tuned)):
        with side() as model:

            def before(model=model) -> list:
                parts = [prompts[at : at + 20] for at in range(0, len(prompts), 20)]
                return [t for part in parts for t in answer_batch(model, tokenizer, part, limit)]

            def after(model=model) -> list:
                written = write_answers(model, tokenizer, prompts, [limit] * len(prompts))
                return [answer_text(one, tokenizer) for one in written]

            texts = []
            for way, work in (("generate()", before), ("engine", after)):
                clock, processor, said = measured(work)
                texts.append(said)
                print(
                    f"| {which} | {way} | {clock:.1f} | {processor:.1f} "
                    f"| {len(prompts) / clock:.1f} |",
                    flush=True,
                )
            same = sum(one == other for one, other in zip(*texts, strict=True))
            print(f"| {which} | the same text | {same} of {len(prompts)} | | |")


if __name__ == "__main__":
    main()
