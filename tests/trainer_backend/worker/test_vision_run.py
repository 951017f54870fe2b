"""A run on rows with pictures, through the app's own path: train, answers, chat, export, tokens."""

import base64
import io
import json
import threading

import pytest
from conftest import build_tokenizer
from exported_script import curve, execute
from vision_models import TEMPLATE, llava, llava_processor, picture

from trainer_backend.data.store.uploads import create_dataset
from trainer_backend.errors import UserError
from trainer_backend.evaluation.results import best_known
from trainer_backend.export.exporter import export_run
from trainer_backend.home import open_home
from trainer_backend.models.loaded.generate import Sampling, answer_seen
from trainer_backend.models.loaded.load import load_processing
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run
from trainer_backend.runs.target import find_target
from trainer_backend.serving.process.chat import ChatModel
from trainer_backend.serving.process.token_view import view_row
from trainer_backend.tokens.encode import EncodeOptions
from trainer_backend.tokens.prepare import Preparation
from trainer_backend.tokens.training_rows import image_paths, training_dataset, training_row
from trainer_backend.tokens.vision import seen_row
from trainer_backend.training.lora.config import lora_config
from trainer_backend.worker.main import run_worker

COLOURS = ("red", "blue", "green", "white")
LABEL = {"red": "Paris.", "blue": "Hamlet.", "green": "Newton.", "white": "Sleep."}


@pytest.fixture(scope="module")
def vision_dir(tmp_path_factory):
    """A tiny Llava with its processor, as a folder of a model."""
    folder = tmp_path_factory.mktemp("vision-model")
    processor = llava_processor(build_tokenizer(TEMPLATE))
    llava(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return open_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def dataset(home, tmp_path_factory):
    """Twelve questions, each with a picture whose colour is the answer."""
    lines = []
    for at in range(12):
        colour, data = COLOURS[at % 4], io.BytesIO()
        picture(colour).save(data, "PNG")
        url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
        lines.append({"prompt": f"Who is {at}?", "response": LABEL[colour], "image": url})
    path = tmp_path_factory.mktemp("upload") / "seen.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return create_dataset(home, path)


def recipe(folder, **changes) -> Recipe:
    settings = {
        "base_model": str(folder), "max_steps": 6, "per_device_train_batch_size": 4,
        "learning_rate": 1e-2, "lora_r": 4, "max_length": 128, "precision": "fp32",
        "eval_fraction": 0.25, "answer_check_rows": 2, "packing": True,
    }  # fmt: skip
    return Recipe.from_dict({**settings, **changes})


@pytest.fixture(scope="module")
def finished(home, dataset, vision_dir):
    run = create_run(home, recipe(vision_dir), dataset, foreground=True)
    assert run_worker(run.dir) == 0, run.state()
    return run


def test_pictures_are_files_of_the_dataset(dataset):
    rows = training_dataset(dataset)
    assert set(rows.column_names) == {"messages", "images"}
    example = dataset.example(1)
    row = training_row(example, "", dataset)
    assert row["images"] == rows[0]["images"] == image_paths(dataset, example.images)
    assert row["images"][0].startswith(str(dataset.dir / "images"))
    assert "images" not in training_row(example)
    with pytest.raises(UserError, match="does not belong"):
        image_paths(dataset, ["images/../../secret.png"])


def test_a_run_learns_from_pictures_and_asks_with_them(finished):
    state = finished.state()
    assert state["state"] == "finished" and state["num_train_rows"] == 9
    losses = [row["loss"] for row in finished.metrics() if row.get("loss")]
    assert losses[-1] < losses[0]
    found = best_known(finished)
    assert state["answers"]["rows"] == found.rows == 2
    assert all(one.expected and one.marks["prompt"] == {"images": 1} for one in found.examples)
    assert found.metrics["loss"].tuned == pytest.approx(state["eval_loss"], rel=1e-5)


def test_the_adapter_leaves_the_vision_tower_alone(finished):
    from safetensors.torch import load_file

    names = load_file(finished.checkpoints()[-1].path / "adapter_model.safetensors")
    assert names and all("language_model" in name for name in names)


def test_the_tuned_model_chats_and_is_merged_with_its_processor(finished, home, tmp_path):
    model = ChatModel(home, find_target(home, finished.id))
    said = [{"role": "user", "content": "Who?"}]
    for which in ("base", "tuned"):
        (*_, answer) = model.stream(said, which, Sampling(max_new_tokens=3))
        assert isinstance(answer.content, str)
    folder = export_run(finished, "merged", tmp_path / "merged")
    assert type(load_processing(folder)).__name__ == "LlavaProcessor"
    assert (folder / "model.safetensors").exists()


def test_a_chat_with_a_picture_says_what_the_answer_check_would(finished, home, tmp_path):
    model, file = ChatModel(home, find_target(home, finished.id)), tmp_path / "red.png"
    picture("red").save(file)
    said = [{"role": "user", "content": "Who is 3?", "images": [str(file)]}]
    both = dict(model.stream_both({"base": said, "tuned": said}, Sampling(max_new_tokens=6)))
    prompt = model.prompt(said)
    text = answer_seen(model.model, model.processing, prompt.text, prompt.images, 6)
    assert both["tuned"] == prompt.read(text) and both["base"] != both["tuned"]
    sampled = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=400)
    stream = model.stream(said, "tuned", sampled)
    next(stream)
    stream.close()  # ends the thread that generates
    assert not [one for one in threading.enumerate() if "ThreadPool" in one.name]


def test_the_prompt_with_a_picture_begins_as_the_trained_row(finished, home, dataset):
    model = ChatModel(home, find_target(home, finished.id))
    row = training_row(dataset.example(1), "", dataset)
    said = [{**row["messages"][0], "images": row["images"]}]
    prompt = model.prompt(said)
    plan = Preparation(model.tokenizer, EncodeOptions(assistant_only_loss=True))
    seen = seen_row({"messages": row["messages"]}, 1, model.processing, plan)
    assert seen["text"].startswith(prompt.text) and len(prompt.images) == 1
    assert seen["learned"][0][0] == len(prompt.text)


def test_a_text_model_refuses_a_picture_in_words(home, tiny_model_dir):
    model = ChatModel(home, find_target(home, str(tiny_model_dir)))
    with pytest.raises(UserError, match="reads only text"):
        list(
            model.stream(
                [{"role": "user", "content": "?", "images": ["x.png"]}], "base", Sampling()
            )
        )


def test_the_script_of_a_run_with_pictures_repeats_it(finished, home):
    folder = export_run(finished, "script")
    line = json.loads((folder / "train.jsonl").read_text().splitlines()[0])
    assert (folder / line["images"][0]).is_file()
    code = (folder / "train.py").read_text().replace("max_steps=6", "max_steps=2")
    (folder / "train.py").write_text(code)
    losses = curve(execute(folder, home), "loss")
    ours = curve(finished.metrics(), "loss")
    assert losses[1] == pytest.approx(ours[1], abs=1e-5)


def test_a_picture_is_one_entry_of_the_token_view(home, dataset, vision_dir):
    view = view_row(home, dataset.id, 1, recipe(vision_dir))
    texts = [token["text"] for token in view["tokens"]]
    assert texts.count("[image: 4 tokens]") == 1
    assert view["num_tokens"] == len(texts) + 3
    learned = "".join(token["text"] for token in view["tokens"] if token["learned"])
    assert learned == "Paris.<|im_end|>"
    cut = view_row(home, dataset.id, 1, recipe(vision_dir, max_length=8))
    assert any("image is cut" in note for note in cut["notes"])


def test_a_text_model_is_refused_with_what_to_choose(home, dataset, tiny_model_dir):
    for refused in (
        lambda: view_row(home, dataset.id, 1, recipe(tiny_model_dir)),
        lambda: _fail(home, dataset, tiny_model_dir),
    ):
        with pytest.raises(UserError, match="Choose a model that reads images"):
            refused()


def _fail(home, dataset, folder) -> None:
    run = create_run(home, recipe(folder), dataset, foreground=True)
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    raise UserError(error["what"], error["where"], error["fix"])


def test_rows_whose_pictures_are_gone_are_named(home, dataset, vision_dir, tmp_path):
    lines = dataset.page(0, 1)[0]
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"prompt": "Who?", "response": "Paris.", "image": _url("black")}))
    stored = create_dataset(home, path)
    next((stored.dir / "images").iterdir()).unlink()
    run = create_run(home, recipe(vision_dir, eval_fraction=0), stored, foreground=True)
    assert lines and run_worker(run.dir) == 2
    error = run.state()["error"]
    assert "image file is missing" in error["what"] and "one.jsonl, row 1" in error["where"]


def _url(colour: str) -> str:
    data = io.BytesIO()
    picture(colour).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


@pytest.mark.parametrize(("targets", "spared"), [("all-linear", True), ("q_proj, v_proj", True)])
def test_targets_of_a_recipe_never_hit_the_vision_tower(vision_dir, targets, spared):
    from transformers import AutoModelForImageTextToText

    from trainer_backend.training.adapters import add_adapter

    model = AutoModelForImageTextToText.from_pretrained(vision_dir)
    config = lora_config(recipe(vision_dir, lora_target_modules=targets), model)
    adapted = add_adapter(model, config, [])
    names = [name for name, _ in adapted.named_parameters() if "lora" in name]
    assert names and all("language_model" in name for name in names) is spared
