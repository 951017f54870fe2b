"""Images: recognised by their bytes, stored once under their hash, refused by the header."""

import base64
import io
import json
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trainer_backend.data.images import ImageBytes, ImageStore, check_image
from trainer_backend.data.store.downloads import download_dataset
from trainer_backend.data.store.held_out import with_held_out
from trainer_backend.data.store.mixes import mix_datasets
from trainer_backend.data.store.uploads import create_dataset
from trainer_backend.data.store.versions import apply_fixes, edit_rows
from trainer_backend.errors import RowError
from trainer_backend.runs.dataset_use import delete_dataset


def encoded(colour: str = "red", format: str = "PNG", size=(4, 3)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, format)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


@pytest.fixture
def put(tmp_path):
    def write(images: list[bytes], name: str = "p.parquet", prompt: str = "What is this?"):
        rows = [
            {"prompt": f"{prompt} {at}", "response": f"It is image {at}.", "image": data}
            for at, data in enumerate(images)
        ]
        types = [("prompt", pa.string()), ("response", pa.string())]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        rows = [row | {"image": {"bytes": row["image"], "path": "x.png"}} for row in rows]
        schema = pa.schema([*types, ("image", kind)])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / name)
        return tmp_path / name

    return write


def images_of(dataset) -> list[str]:
    return [name for example in dataset.examples() for name in example.images or ()]


def test_images_are_kept_once_under_their_hash(home, put):
    dataset = create_dataset(home, put([encoded(), encoded("blue", "JPEG"), encoded()]))
    names = images_of(dataset)
    assert len(names) == 3 and names[0] == names[2] and names[1].endswith(".jpg")
    assert sorted(path.name for path in (dataset.dir / "images").iterdir()) == sorted(
        {name.removeprefix("images/") for name in names}
    )
    assert (dataset.dir / names[0]).read_bytes() == encoded()
    assert json.loads(dataset.page(0)[0][0][1]["image"])["image"] == names[0]


def test_images_in_data_urls_are_kept_too(home, tmp_path):
    url = "data:image/png;base64," + base64.b64encode(encoded()).decode()
    turns = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "?"}, {"type": "image", "image": url}],
        },
        {"role": "assistant", "content": "Red."},
    ]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    dataset = create_dataset(home, tmp_path / "a.jsonl")
    (name,) = images_of(dataset)
    assert (dataset.dir / name).read_bytes() == encoded()


def test_versions_mixes_and_held_out_files_bring_their_images(home, put):
    first = create_dataset(home, put([encoded(), encoded("blue")]))
    other = create_dataset(home, put([encoded("green")], "q.parquet", "And this?"))
    edited = edit_rows(home, first.id, edits={1: {"response": " It is red. "}})
    fixed = apply_fixes(home, edited.id, {"outer_space": "trim"})
    both = with_held_out(home, fixed.id, other.id)
    mixed = mix_datasets(home, [(first.id, 2), (other.id, 1)], name="m", seed=1)
    delete_dataset(home, first.id)
    delete_dataset(home, other.id)
    for dataset, count in ((edited, 2), (fixed, 2), (both, 3), (mixed, 3)):
        names = images_of(dataset)
        assert len(names) == count == dataset.num_examples
        assert all((dataset.dir / name).is_file() for name in names)
    assert both.hash != fixed.hash


@pytest.mark.parametrize("format", ["jsonl", "parquet", "csv"])
def test_a_download_brings_its_images_and_comes_back_with_them(home, put, format):
    dataset = create_dataset(home, put([encoded(), encoded("blue", "JPEG"), encoded()]))
    path = download_dataset(home, dataset.id, format)
    assert path.suffix == ".zip" and path == download_dataset(home, dataset.id, format)
    back = create_dataset(home, path)
    assert back.hash == dataset.hash and images_of(back) == images_of(dataset)
    assert all((back.dir / name).is_file() for name in images_of(back))


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n" + b"x" * 50,
        encoded()[:20],
        bomb(100_000, 100_000),
        bomb(20_000, 20_000),
        bomb(40_000, 10),
        b"",
    ],
)
def test_other_files_and_too_large_images_are_refused_by_the_header(data):
    with pytest.raises(RowError) as caught:
        check_image(data)
    assert caught.value.what and caught.value.fix


def test_rows_with_images_that_cannot_be_used_are_left_out_and_listed(home, put):
    dataset = create_dataset(home, put([encoded(), bomb(100_000, 100_000), encoded("blue")]))
    assert dataset.num_rows == 3 and dataset.num_examples == 2 and dataset.example(2) is None
    assert any(problem.rows == (2,) for problem in dataset.problems)
    assert len(list((dataset.dir / "images").iterdir())) == 2


def test_a_name_alone_opens_nothing(home, tmp_path):
    (tmp_path / "images").mkdir()
    store = ImageStore(tmp_path / "mine", [tmp_path])
    (tmp_path / "mine").mkdir()
    for name in ("images/../secret.png", "/etc/passwd", f"images/{'0' * 64}.png", "x"):
        with pytest.raises(RowError, match="not in the upload"):
            store.keep(name)
    kept = store.keep(ImageBytes(encoded(), ".png"))
    assert store.keep(kept) == kept == store.keep(ImageBytes(encoded(), ".png"))
