"""The command sweep: its table, its JSON, the list, and mistakes."""

import json


def test_a_sweep_is_queued_and_listed(call, tiny_model_dir):
    model = f"base_model={tiny_model_dir}"
    asked = ("sweep", "quick_try", "--data", "orders_to_json", "--set", model)
    tries = ("--try", "learning_rate=1e-4,2e-4", "--try", "lora_r=4,8")
    code, out, errors = call(*asked, *tries, "--json")
    found = json.loads(out)
    assert code == 0 and "They wait for the app" in errors
    assert found["sentence"].startswith("4 runs, about ")
    assert found["tries"] == {"learning_rate": [1e-4, 2e-4], "lora_r": [4, 8]}
    assert [run["state"] for run in found["runs"]] == ["queued"] * 4
    assert found["runs"][3]["values"] == {"learning_rate": 2e-4, "lora_r": 8}
    assert (found["best"], found["halving"]) == (None, False)
    code, out, _ = call("sweep", "list", "--json")
    assert code == 0 and [one["id"] for one in json.loads(out)] == [found["id"]]
    code, out, _ = call("sweep", found["id"])
    assert code == 0 and "No best run yet: 4 runs are not over." in out
    assert out.count("queued") == 4 and "Learning rate 0.0002, LoRA rank 8" in out


def test_mistakes_and_an_empty_list(call):
    assert call("sweep", "list")[1] == "There are no sweeps.\n"
    code, _, errors = call("sweep", "quick_try", "--data", "orders_to_json", "--try", "lora_r=8")
    assert code == 2 and "has one value only" in errors
    assert call("sweep", "sweep-0")[0] == 2
    assert call("sweep", "quick_try", "--data", "orders_to_json")[0] == 2
