"""Images at URLs: as files are, in Python and from the command line, and each way to fail in one line."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import deeplab_fast
from deeplab_fast import predict
from deeplab_fast.errors import UserError
from deeplab_fast.prediction.remote_image import RemoteImage
from deeplab_fast.storage import download as download_module
from tests.file_server import Answer, serving
from tests.prediction.networks import picture

FLAGS = {"device_target": "CPU", "precision": "fp32"}


def png(height, width, seed=0):
    file = io.BytesIO()
    Image.fromarray(picture(height, width, seed)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download_module, "PAUSES_S", (0.01, 0.02))
    with serving({"/a.png": png(40, 60), "/d/b%20c.png": png(50, 33, 1), "/page.html": b"<html>no</html>"}) as state:
        yield state


@pytest.fixture
def segment(weights):
    return deeplab_fast.Segmenter(weights, **FLAGS)


def test_a_url_gives_what_the_image_gives(server, segment):
    found = segment(f"{server.url}/a.png?size=full")
    assert np.array_equal(found.classes, segment(picture(40, 60)).classes)
    assert np.array_equal(found.image, picture(40, 60))
    mixed = segment([picture(40, 60), f"{server.url}/a.png"])
    assert np.array_equal(mixed[0].classes, mixed[1].classes)


def test_a_file_url_and_a_server_that_breaks_off_once(server, segment, tmp_path):
    (tmp_path / "ä b.png").write_bytes(png(40, 60))
    expected = segment(picture(40, 60)).classes
    assert np.array_equal(segment((tmp_path / "ä b.png").as_uri()).classes, expected)
    server.answers = [Answer(status=503), Answer(stop_after=500)]
    assert np.array_equal(segment(f"{server.url}/a.png").classes, expected)


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        ("/none.png?key=hush", Answer(), r"none\.png: cannot be downloaded \(http://.*/none\.png: HTTP status 404"),
        ("/a.png?key=hush", Answer(status=500), r"HTTP status 500 .*\(3 tries\)"),
        ("/page.html?key=hush", Answer(), r"^http://127\.0\.0\.1:\d+/page\.html: "),
        ("/a.png?key=hush", Answer(stop_after=300), r"ended after 900 of [\d,]+ bytes \(3 tries\)"),
        ("/a.png?key=hush", Answer(content=b"x" * 1_100_000), r"has 1,100,000 bytes; expected at most 1,088,576"),
        ("/a.png?key=hush", Answer(content=b"x" * 1_100_000, chunked=True), r"gives more than 1,088,576 bytes"),
        ("/a.png?key=hush", Answer(content=png(101, 100)), r"a\.png: .*pixels"),
    ],
)
def test_what_is_no_image_is_one_line(server, weights, path, answer, message):
    server.default = answer
    segment = deeplab_fast.Segmenter(weights, **FLAGS, max_pixels=10_000)
    with pytest.raises(UserError, match=message) as caught:
        segment(server.url + path)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "save it as" not in str(caught.value)


def test_hosts_and_schemes_that_are_not_there(segment, server):
    with pytest.raises(UserError, match=r"a\.png: cannot be downloaded \(http://127\.0\.0\.1:9/a\.png: .*refused"):
        segment("http://127.0.0.1:9/a.png")
    with pytest.raises(UserError, match="unknown url type: gopher"):
        segment("gopher://host/a.png")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://me:hush@h.org/d/a.png?key=hush", "a.png"),
        ("https://h.org/", "image"),
        ("https://h.org", "image"),
        ("https://h.org/d/s%C3%BCd%20see.jpg", "süd see.jpg"),
        ("https://h.org/a%2F..%2Fb%00.jpg", "b_.jpg"),
        ("https://h.org/..", "image"),
        ("http://[bad/a.png", "a.png"),
        ("https://h.org/a.png?key=hush hush/b.png", "a.png"),
        ("https://h.org/a b.png?key=hush", "a b.png"),
        (f"https://h.org/{'ü' * 300}.png", f"{'ü' * 90}.png"),
    ],
)
def test_names(url, name):
    assert RemoteImage(url, 1).name == name


@pytest.mark.parametrize("name", ["ü b.png", "%C3%BC%20b.png", "ü b.png?key=hüsh hush", "ü b.png?key=\x01"])
def test_what_no_url_contains_is_escaped(segment, server, name):
    server.files["/%C3%BC%20b.png"] = png(40, 60)
    assert np.array_equal(segment(f"{server.url}/{name}").image, picture(40, 60))


@pytest.mark.parametrize(
    "url", ["http://[bad/a.png?key=hush", "http://h:x/a.png?key=hush", "http://me:hush/sh?@127.0.0.1:9/a.png"]
)
def test_a_url_that_cannot_be_read_is_one_line_without_secrets(segment, run, url, capsys):
    with pytest.raises(UserError, match=r"cannot be downloaded \(http://.*: not a URL that can be read\)") as caught:
        segment(url)
    assert run(url) == 1
    assert "hush" not in str(caught.value) + capsys.readouterr().err


@pytest.fixture
def run(weights, tmp_path):
    def call(source, *flags):
        given = [f"--ckpt_path={weights}", f"--input={source}", f"--output={tmp_path / 'out'}", "--device_target=CPU"]
        return predict.main([*given, "--precision=fp32", "--save=classes,areas", *flags])

    return call


def classes(path):
    return np.asarray(Image.open(path))


def test_predict_takes_a_url_and_finds_it_done(run, server, segment, tmp_path, capsys):
    assert run(f"{server.url}/a.png?key=hush") == 0
    assert np.array_equal(classes(tmp_path / "out/a.png"), segment(picture(40, 60)).classes)
    assert json.loads((tmp_path / "out/areas.json").read_text())["images"][0]["image"] == "a.png"
    assert not any(b"hush" in path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert run(f"{server.url}/a.png?key=hush") == 0
    assert "1 of them by an earlier run" in capsys.readouterr().out
    server.files["/a.png"] = png(40, 60, 5)
    with pytest.raises(UserError, match="is the result of another image"):
        run(f"{server.url}/a.png")


def test_predict_takes_a_list_with_urls_and_goes_on_where_one_fails(run, server, segment, photos, tmp_path, capsys):
    urls = [f"{server.url}/{name}" for name in ("a.png", "d/b%20c.png 3.png", "none.png", "page.html")]
    (photos / "list.txt").write_text("\n".join([*urls, "b.png"]))
    assert run(photos / "list.txt", "--batch_size=2") == 1
    said = capsys.readouterr().err
    assert "2 of 5 images could not be segmented" in said
    assert "none.png: cannot be downloaded" in said
    assert f"{server.url}/page.html: " in said
    for name in ("a", "b c", "b"):
        assert (tmp_path / f"out/{name}.png").is_file()
    server.files["/none.png"] = png(20, 20)
    assert run(photos / "list.txt", "--batch_size=2") == 1
    assert "1 of 5 images could not be segmented" in capsys.readouterr().err


def test_a_name_too_long_for_a_file_is_shortened(run, server, tmp_path):
    path = f"/{'x' * 300}.png"
    server.files[path] = png(40, 60)
    assert run(server.url + path, "--save=probabilities") == 0
    assert (tmp_path / f"out/{'x' * 180}_probabilities.npz").is_file()


def test_two_images_of_one_name_are_refused_before_any_work(run, server, photos):
    (photos / "list.txt").write_text(f"{server.url}/a.png?v=1\n{server.url}/x/a.png\n")
    with pytest.raises(UserError, match=r"/x/a\.png: its result would have the name of http://.*/a\.png's"):
        run(photos / "list.txt")
    assert server.requests == []
