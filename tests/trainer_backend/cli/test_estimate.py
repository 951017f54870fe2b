"""The command estimate: its table, its JSON, counted tokens, and the exit code with the fix."""

import json

from trainer_backend.hardware import Hardware

ROWS = [{"prompt": f"What is {n} plus {n}?", "response": f"It is {2 * n}."} for n in range(1, 41)]


def test_tokens_are_counted_where_the_tokenizer_is_here(call, tmp_path, tiny_model_dir):
    data = tmp_path / "sums.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    model = f"base_model={tiny_model_dir}"
    code, out, _ = call("estimate", "balanced", "--data", data, "--set", model, "--json")
    found = json.loads(out)
    assert code == 0 and found["fits"] and found["steps"] == 6
    assert "counted tokens of 40 rows" in found["based_on"]
    assert not any("guessed" in note for note in found["notes"])
    code, out, _ = call("estimate", "balanced", "--data", data, "--set", model)
    assert code == 0 and "Fits this machine" in out and "Steps" in out and "Based on" in out


def test_what_does_not_fit_comes_with_the_settings_that_do(call, monkeypatch):
    small = Hardware("cpu", "CPU", 1, 8.0, 2.2, 2, True)
    monkeypatch.setattr("trainer_backend.cli.estimate.hardware", lambda: small)
    full = ("estimate", "full_finetune", "--set", "max_length=64", "--data", "orders_to_json")
    code, out, _ = call(*full)
    assert code == 2 and "Too large" in out and "--set adapter=lora" in out
    code, out, _ = call(*full, "--json")
    found = json.loads(out)
    assert code == 2 and found["fits"] is False and found["fix"]
    options = [
        word for name, value in found["fix"].items() for word in ("--set", f"{name}={value}")
    ]
    assert call(*full, *options)[0] == 0


def test_a_mistake_in_the_options_is_named(call):
    assert call("estimate", "no_preset")[0] == 2
    assert call("estimate", "quick_try", "--set", "max_steps=many")[0] == 2
    assert call("estimate", "quick_try", "--data", "no-such-file.csv")[0] == 2
