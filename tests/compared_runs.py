"""Finished runs with curves, settings and evaluations, written without training anything."""

from run_files import append, set_state

from trainer_backend.evaluation.results import Asked, Evaluation, Metric, keep
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run


def finished_run(home, dataset, name, losses, eval_losses=None, **settings):
    """A finished run whose training loss at step n is losses[n - 1]."""
    recipe = Recipe.from_dict({"max_steps": len(losses), **settings})
    run = create_run(home, recipe, dataset, name=name, foreground=True)
    evals = eval_losses or {}
    for step, loss in enumerate(losses, 1):
        append(run, {"type": "metrics", "step": step, "loss": loss})
        if step in evals:
            append(run, {"type": "eval", "step": step, "eval_loss": evals[step]})
    last = evals[max(evals)] if evals else None
    facts = {"step": len(losses), "total_steps": len(losses), "loss": losses[-1]}
    set_state(run, state="finished", eval_loss=last, elapsed_seconds=61.0, **facts)
    return run


def evaluate(run, right, rows=None, *, loss=1.0, base_right=(), **facts):
    """Keep an evaluation in which the answers to the rows in `right` are the expected ones."""
    rows = list(range(1, 5)) if rows is None else rows
    examples = [_asked(row, row in right, row in base_right) for row in rows]
    share = sum(row in right for row in rows) / len(rows)
    base = sum(row in base_right for row in rows) / len(rows)
    evaluation = Evaluation(
        run=run.id,
        checkpoint=run.state()["step"],
        rows=len(rows),
        metrics={
            "loss": Metric(2.0, loss, "lower", (-1.5, -0.5), len(rows)),
            "exact_match": Metric(base, share, "higher", (0.1, 0.9), len(rows)),
        },
        verdict="better" if share > base else "no clear difference",
        main="exact_match",
        sentence="Better.",
        examples=examples,
        **{"dataset_id": run.spec()["dataset"]["id"], "dataset": "numbers", **facts},
    )
    keep(run, evaluation)
    return evaluation


def _asked(row, is_right, base_is_right):
    scores = {"exact_match": {"base": float(base_is_right), "tuned": float(is_right)}}
    said = {True: f"{row}!", False: "no"}
    prompt, expected = f"Say {row}", f"{row}!"
    return Asked(row, prompt, expected, said[base_is_right], said[is_right], scores)


def check_answers_as_before(run, right, rows=4, kept=4):
    """The answer check of an earlier version: in the state, without numbers of rows."""
    examples = [
        {
            "prompt": f"Say {row}",
            "expected": f"{row}!",
            "base": "no",
            "tuned": f"{row}!" if row in right else "no",
            "base_right": False,
            "tuned_right": row in right,
        }
        for row in range(1, kept + 1)
    ]
    answers = {"rows": rows, "base": 0.0, "tuned": len(right) / rows, "examples": examples}
    set_state(run, answers=answers)
