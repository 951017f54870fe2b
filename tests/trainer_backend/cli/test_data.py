"""The commands check, prepare and datasets: what they print, what they write, their exit codes."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from trainer_backend.data.store.dataset import list_datasets, open_dataset


@pytest.fixture
def data(tmp_path):
    """40 rows: 11 repeats 10, the answer of 12 ends in spaces, 13 has none."""
    rows = [
        {"prompt": f"What is {at} plus {at}?", "response": f"It is {2 * at}, as one counts."}
        for at in range(1, 41)
    ]
    rows[10], rows[12]["response"] = rows[9], ""
    rows[11]["response"] += "  "
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_check_tells_codes_switches_and_how_to_use_them(call, data):
    code, out, _ = call("check", data, "--json")
    report = json.loads(out)
    found = {problem["code"]: problem for problem in report["problems"]}
    assert code == 0 and report["rows"] == 40 and report["examples"] == 39
    assert found["duplicates"]["rows"] == [11] and found["duplicates"]["switches"] == ["keep_one"]
    assert found["empty_answer"]["rows"] == [13] and found["outer_space"]["rows"] == [12]
    assert len(report["hash"]) == 64 and report["statistics"]["rows"] == 39
    assert report["source"]["files"][0]["name"] == "sums.jsonl"
    _, out, _ = call("check", data)
    assert "prepare --fix duplicates=keep_one" in out and "Row 11." in out


def test_check_finds_what_a_model_cuts(call, data, tiny_model_dir):
    _, out, _ = call("check", data, "--model", tiny_model_dir, "--max-length", 30, "--json")
    report = json.loads(out)
    found = {problem["code"]: problem for problem in report["problems"]}
    tokens = report["tokens"]
    assert found["over_length"]["count"] == tokens["cut"] > 0 and tokens["max_length"] == 30
    assert tokens["tokens"] == tokens["learned"] + tokens["context"] and tokens["failed"] == 0
    severities = [problem["severity"] for problem in report["problems"]]
    assert severities == sorted(severities, key=("error", "warning", "info").index)
    for length in (0, -1, 10**9):
        assert call("check", data, "--model", tiny_model_dir, "--max-length", length)[0] == 2


def test_check_leaves_with_2_where_a_run_would_be_refused(call, data, tiny_model_dir, tmp_path):
    model = tmp_path / "gpt2"
    shutil.copytree(tiny_model_dir, model)
    config = {"model_type": "gpt2", "n_positions": 30, "vocab_size": 400, "n_embd": 32}
    (model / "config.json").write_text(json.dumps(config | {"n_head": 2, "n_layer": 1}))
    code, out, _ = call("check", data, "--model", model, "--json")
    found = {problem["code"]: problem for problem in json.loads(out)["problems"]}
    assert code == 2 and "30 positions" in found["no_positions"]["what"]
    code, out, _ = call("check", data, "--model", model, "--max-length", 30, "--json")
    assert code == 0 and "no_positions" not in out


def test_reading_can_be_told_how(call, tmp_path):
    path = tmp_path / "old.csv"
    path.write_bytes("prompt|response\ncaf\xe9|x\nth\xe9|y\nt\xe9|z\n".encode("latin-1"))
    assert call("check", path, "--json")[0] == 2
    told = ("--encoding", "latin-1", "--delimiter", "|", "--json")
    report = json.loads(call("check", path, *told)[1])
    assert report["rows"] == 3 and report["columns"] == ["prompt", "response"]
    assert any("Latin-1" in note for note in report["notes"])
    report = json.loads(call("check", path, *told, "--max-rows", 2)[1])
    assert report["rows"] == 2
    assert call("check", path, "--encoding", "no-such")[0] == 2
    with pytest.raises(SystemExit):
        call("check", path, "--max-rows", "0")


def test_damaged_rows_are_left_out_when_asked(call, tmp_path):
    path = tmp_path / "torn.jsonl"
    row = '{"prompt": "a", "response": "b"}\n'
    path.write_text(row + '{"prompt": \n' + row.replace("a", "c"))
    code, out, _ = call("check", path, "--json")
    assert code == 2 and json.loads(out)["error"]["offer"] == {"skip_damaged": True}
    code, out, _ = call("check", path, "--skip-damaged", "--json")
    report = json.loads(out)
    assert code == 0 and report["rows"] == 2 and "left out" in " ".join(report["notes"])
    out = call("check", path, "--skip-damaged")[1]
    assert "left out" in out and "line 2 of" in out


def test_several_files_are_read_as_one(call, data, tmp_path):
    more = tmp_path / "more.csv"
    more.write_text("prompt,response\nWhat is this?,One more row.\n")
    report = json.loads(call("check", data, more, "--json")[1])
    assert report["rows"] == 41 and report["name"] == "sums.jsonl and 1 more"
    code, _, err = call("check", data, tmp_path / "gone.csv")
    assert code == 2 and "gone.csv" in err


def test_prepare_writes_the_cleaned_rows(call, data, tmp_path):
    out = tmp_path / "clean"
    fixes = ("--fix", "duplicates", "--fix", "outer_space=trim")
    code, printed, _ = call("prepare", data, "--out", out, *fixes, "--json")
    report = json.loads(printed)
    train, held_out = lines(out / "train.jsonl"), lines(out / "held_out.jsonl")
    assert code == 0 and report["done"] == "1 row left out, 1 trimmed."
    assert report["files"]["train"] == {"path": str(out / "train.jsonl"), "rows": len(train)}
    assert len(train) + len(held_out) == 38 == report["examples"] and len(held_out) == 7
    answers = [row["messages"][1]["content"] for row in train + held_out]
    assert len(set(answers)) == 38 and all(answer == answer.strip() for answer in answers)
    assert call("prepare", data, "--out", out)[0] == 2  # nothing is replaced unasked
    code, printed, _ = call("prepare", data, "--out", out, "--overwrite", "--eval-fraction", 0)
    assert code == 0 and f"39 rows to train on: {out / 'train.jsonl'}" in printed
    assert not (out / "held_out.jsonl").exists()


def test_a_fix_that_the_data_does_not_need_is_no_mistake(call, data, tmp_path):
    fixes = ("--fix", "mojibake", "--fix", "duplicates")
    code, out, err = call("prepare", data, "--out", tmp_path / "x.jsonl", *fixes, "--json")
    assert code == 0 and json.loads(out)["done"] == "1 row left out."
    assert "nothing to fix for “mojibake”" in err and "duplicates, outer_space" in err
    clean = tmp_path / "x.jsonl"
    assert call("prepare", clean, "--out", tmp_path / "y.jsonl", "--fix", "duplicates")[0] == 0
    assert lines(tmp_path / "y.jsonl") == lines(clean)


def test_what_prepare_writes_is_read_again_as_the_same_examples(call, data, tmp_path, home):
    for ending in ("jsonl", "parquet"):
        out = tmp_path / f"all.{ending}"
        assert call("prepare", data, "--out", out)[0] == 0
        assert call("check", out, "--json")[0] == 0
    hashes = {one.hash for one in list_datasets(home)}
    assert len(hashes) == 1 and len(list_datasets(home)) == 3


def test_the_folder_that_prepare_writes_is_data_with_its_held_out_rows(call, data, tmp_path, home):
    out = tmp_path / "clean"
    assert call("prepare", data, "--out", out)[0] == 0
    report = json.loads(call("check", out, "--json")[1])
    stored = open_dataset(home, report["dataset_id"])
    held_out = [example.messages for example in stored.examples(stored.split(0.5, 1)[1])]
    assert held_out == [row["messages"] for row in lines(out / "held_out.jsonl")]
    (out / "more.csv").write_text("x")
    assert "3 data files" in call("check", out)[2]


def test_prepare_can_drop_what_a_model_would_cut(call, data, tiny_model_dir, tmp_path):
    told = ("--model", tiny_model_dir, "--json")
    longest = json.loads(call("check", data, *told)[1])["tokens"]["longest"]
    told = (*told, "--max-length", longest - 1)
    before = json.loads(call("check", data, *told)[1])["tokens"]
    out = tmp_path / "short.parquet"
    code, printed, _ = call("prepare", data, "--out", out, "--fix", "over_length=drop", *told)
    report = json.loads(printed)
    assert code == 0 and before["cut"] > 0 == report["tokens"]["cut"]
    assert report["examples"] == 39 - before["cut"]


def test_packed_tokens_train_as_the_rows_themselves_do(call, data, tiny_model_dir, tmp_path):
    from datasets import Dataset

    from trainer_backend import SFTConfig, SFTTrainer

    out = tmp_path / "packed"
    told = ("--model", tiny_model_dir, "--max-length", 128, "--format", "parquet", "--json")
    code, printed, _ = call("prepare", data, "--out", out, "--eval-fraction", 0, *told)
    report, table = json.loads(printed), pq.read_table(out / "train.parquet")
    assert code == 0 and table.column_names == ["input_ids", "labels", "seq_lengths"]
    assert report["files"]["train"]["rows"] == len(table) < 39
    assert sum(map(sum, table["seq_lengths"].to_pylist())) == report["tokens"]["tokens"]
    assert call("prepare", data, "--out", tmp_path / "rows.jsonl")[0] == 0
    rows = lines(tmp_path / "rows.jsonl")

    def first_loss(rows, **settings) -> float:
        args = SFTConfig(
            output_dir=str(tmp_path / "run"),
            max_length=128,
            packing=True,
            per_device_train_batch_size=64,
            max_steps=1,
            logging_steps=1,
            report_to="none",
            bf16=False,
            save_strategy="no",
            disable_tqdm=True,
            **settings,
        )
        trainer = SFTTrainer(model=str(tiny_model_dir), args=args, train_dataset=rows)
        return trainer.train().training_loss

    ready = first_loss(Dataset(table), dataset_kwargs={"skip_prepare_dataset": True})
    assert ready == pytest.approx(first_loss(rows, assistant_only_loss=True), rel=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--out", "x.csv"),
        ("--out", "x.jsonl", "--format", "parquet"),
        ("--out", "x.jsonl", "--fix", "duplicates=trim"),
        ("--out", "folder", "--eval-fraction", "2"),
        ("--out", "folder", "--seed", "-1"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(call, data, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("prepare", data, *arguments)
    assert code == 2 and "where:" in err and "fix:" in err and "Traceback" not in err
    assert not (tmp_path / "x.jsonl").exists() and not (tmp_path / "folder").exists()


def test_prepare_refuses_data_whose_columns_are_unclear(call, tmp_path):
    path = tmp_path / "unclear.csv"
    path.write_text("alpha,beta,gamma\n1,2,3\n4,5,6\n")
    code, _, err = call("prepare", path, "--out", tmp_path / "x.jsonl")
    assert code == 2 and "choose" in err and not (tmp_path / "x.jsonl").exists()


def test_datasets_lists_what_is_stored(call, data, tmp_path):
    assert call("datasets", "--json")[1].strip() == "[]"
    call("prepare", data, "--out", tmp_path / "x.jsonl", "--fix", "duplicates")
    newest, first = json.loads(call("datasets", "--json")[1])
    assert newest["parent"] == first["id"] and newest["step"] == "fixes"
    assert first["name"] == "sums.jsonl" and newest["name"] == "sums.jsonl, version 2"
    code, out, _ = call("datasets")
    assert code == 0 and newest["id"] in out and "39 rows" in out
    assert json.loads(call("check", newest["id"], "--json")[1])["examples"] == 38
