import numpy as np
import pytest
from PIL import Image

from deeplab_fast.data.check import check_source, suggested_weights
from deeplab_fast.data.sources import folder_source, list_source
from deeplab_fast.errors import UserError
from deeplab_fast.prepare.check import main


@pytest.fixture
def own(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(6):
        Image.new("RGB", (20, 10), (40 * i, 0, 0)).save(tmp_path / "images" / f"{i}.jpg")
        Image.fromarray(np.full((10, 20), i % 3, np.uint8)).save(tmp_path / "labels" / f"{i}.png")
    return tmp_path


def check(own, workers=0, **options):
    source = folder_source(own / "images", own / "labels")
    return check_source(source, options.pop("num_classes", 3), 255, workers, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_good_data(own, workers):
    findings = check(own, workers)
    assert findings.problems == []
    assert findings.pixels[:3].tolist() == [400, 400, 400]
    assert findings.samples == 6


def test_every_kind_of_problem_names_its_file(own):
    noise = np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8)
    Image.fromarray(noise).save(own / "images/0.jpg")
    (own / "images/0.jpg").write_bytes((own / "images/0.jpg").read_bytes()[:-100])
    Image.new("RGB", (20, 10)).save(own / "labels/1.png")
    Image.fromarray(np.zeros((5, 20), np.uint8)).save(own / "labels/2.png")
    Image.fromarray(np.full((10, 20), 9, np.uint8)).save(own / "labels/3.png")
    (own / "labels/4.png").write_bytes(b"nothing")
    problems = check(own, 2).problems
    for name, words in (
        ("images/0.jpg", "cannot be decoded"),
        ("labels/1.png", "mode RGB"),
        ("labels/2.png", "20x5 pixels; its image is 20x10"),
        ("labels/3.png", "label value 9"),
        ("labels/4.png", "not a readable image"),
    ):
        assert any(name in p and words in p for p in problems), (name, problems)
    assert any("map its colours to class numbers first" in p for p in problems)


def test_it_counts_classes_that_nothing_else_counts(own, capsys):
    flags = [f"--image_dir={own / 'images'}", f"--label_dir={own / 'labels'}"]
    with pytest.raises(UserError):  # 21 classes by default, 18 of them absent
        main(flags)
    assert "labels hold 0 to 2, and nothing says how many" in capsys.readouterr().out
    assert main([*flags, "--num_classes=3"]) == 0
    assert "labels hold" not in capsys.readouterr().out


def test_notes(own):
    label = Image.fromarray(np.zeros((10, 20), np.uint8)).convert("P")
    label.save(own / "labels/0.png")
    notes = " ".join(check(own, num_classes=5).notes)
    assert "1 labels are palette PNG" in notes


def test_overlap(builtin):
    train, val = list_source(builtin, builtin / "train.txt"), list_source(builtin, builtin / "val.txt")
    assert not check_source(train, 6, 255, held_out=val).problems
    assert "held-out, and also in the data" in check_source(val, 6, 255, held_out=val).problems[0]


def test_overlap_is_by_content_and_not_by_name(own, tmp_path_factory):
    """The same names with other images are no overlap; the same image under another name is."""
    other = tmp_path_factory.mktemp("other")
    for folder in ("images", "labels"):
        (other / folder).mkdir()
    for i in range(3):
        Image.new("RGB", (20, 10), (0, 0, 100 + i)).save(other / "images" / f"{i}.jpg")
        (other / "labels" / f"{i}.png").write_bytes((own / "labels" / f"{i}.png").read_bytes())
    held_out = folder_source(other / "images", other / "labels")
    assert not check(own, held_out=held_out).problems
    (other / "images/2.jpg").write_bytes((own / "images/5.jpg").read_bytes())
    problems = check(own, held_out=held_out).problems
    assert len(problems) == 1
    assert "images/2.jpg: held-out, and also in the data as" in problems[0]
    assert "images/5.jpg" in problems[0]
    (own / "images/1.jpg").write_bytes((own / "images/0.jpg").read_bytes())
    assert any("1.jpg: the same image as" in note for note in check(own).notes)


def test_weights():
    assert suggested_weights(np.array([100, 50, 10, 0])) == [0.5, 1.0, 5.0, 1.0]
    assert suggested_weights(np.array([10**6, 10**6, 1]))[2] == 10.0
    assert suggested_weights(np.zeros(2)) == [1.0, 1.0]
