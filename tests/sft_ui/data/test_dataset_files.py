"""Routes of a dataset: only its own images, only raster formats, only after signing in."""

import csv
import io
import json

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from sft_ui.data.dataset_files import build_routes, image_address, image_file

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 30
NAME = "a" * 64


@pytest.fixture
def client(home):
    app = Starlette(routes=build_routes(home))
    app.auth, app.auth_dependency, app.cookie_id, app.tokens = None, None, "x", {"t": "me"}
    return TestClient(app)


@pytest.fixture
def image_data(dataset):
    folder = dataset.dir / "images"
    folder.mkdir()
    (folder / f"{NAME}.png").write_bytes(PNG)
    (folder / f"{'b' * 64}.png").write_bytes(b"<svg onload=alert(1)>")
    (folder / f"{'c' * 64}.svg").write_bytes(b"<svg/>")
    (folder / "notes.txt").write_text("secret")
    return dataset


def test_an_image_is_served_with_its_media_type_and_nothing_else(client, image_data):
    answer = client.get(f"/{image_address(image_data.id, f'images/{NAME}.png')}")
    assert answer.status_code == 200 and answer.content == PNG
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name",
    [
        f"{'b' * 64}.png",  # bytes that do not match the suffix
        f"{'c' * 64}.svg",
        f"{'d' * 64}.png",  # missing
        "notes.txt",
        "..%2fmeta.json",
        "%2e%2e%2f%2e%2e%2fmeta.json",
    ],
)
def test_case_66_only_raster_images_of_the_dataset_are_served(client, image_data, name):
    assert client.get(f"/studio/images/{image_data.id}/{name}").status_code == 404


@pytest.mark.parametrize("dataset_id", ["..", "%2e%2e", "no-such", "0" * 16])
def test_an_unknown_dataset_has_no_image(client, home, dataset_id):
    assert client.get(f"/studio/images/{dataset_id}/{NAME}.png").status_code == 404
    assert image_file(home, "../datasets", f"{NAME}.png") is None


def test_a_download_is_a_file_of_all_rows(client, dataset):
    answer = client.get(f"/studio/datasets/{dataset.id}/jsonl")
    assert answer.headers["content-disposition"].startswith("attachment")
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert len(rows) == 60 and rows[0]["response"] == "Answer 0"
    table = list(csv.reader(io.StringIO(client.get(f"/studio/datasets/{dataset.id}/csv").text)))
    assert len(table) == 61


def test_an_unknown_format_or_dataset_is_a_404(client, dataset):
    assert client.get(f"/studio/datasets/{dataset.id}/exe").status_code == 404
    answer = client.get("/studio/datasets/0000000000000000/csv")
    assert answer.status_code == 404 and "no such dataset" in answer.text


def test_the_login_of_the_page_guards_both(client, image_data):
    client.app.auth = lambda user, password: True
    addresses = (
        f"/studio/images/{image_data.id}/{NAME}.png",
        f"/studio/datasets/{image_data.id}/csv",
    )
    assert [client.get(one).status_code for one in addresses] == [401, 401]
    client.cookies.set("access-token-unsecure-x", "t")
    assert [client.get(one).status_code for one in addresses] == [200, 200]


def test_an_auth_dependency_is_checked_too(client, image_data):
    client.app.auth_dependency = lambda request: request.headers.get("who")
    address = f"/studio/images/{image_data.id}/{NAME}.png"
    assert client.get(address).status_code == 401
    assert client.get(address, headers={"who": "me"}).status_code == 200
