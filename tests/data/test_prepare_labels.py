"""``prepare labels`` from end to end: what it writes, what it leaves alone, and the document that teaches it."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from deeplab_fast import prepare, train
from deeplab_fast.errors import UserError
from tests.data.annotated import HEIGHT, WIDTH, convert, make_image, names, refused, without_sheet, write, write_mask
from tests.faults.tiny import make_tiny

DOCUMENT = Path(__file__).parents[2] / "docs/own_data.md"
BOXES = {"cat": (10, 10, 60, 70), "dog": (70, 30, 150, 110)}  # left, top, right, bottom
TRAINING = [
    "--backbone=resnet18", "--crop_size=33", "--batch_size=2", "--max_steps=1", "--eval_epochs=1", "--num_workers=0",
    "--device_target=CPU", "--precision=fp32", "--fused=off",
]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    """Four images and a mask of each, of three classes."""
    for i in range(4):
        make_image(tmp_path / f"images/{i}.jpg")
        write_mask(
            tmp_path / f"masks/{i}.png", np.random.default_rng(i).integers(0, 3, (HEIGHT, WIDTH), dtype=np.uint8)
        )
    return tmp_path


def described_by_tools(root):
    """The same boxes as every tool that the document names would leave them."""
    index = np.zeros((HEIGHT, WIDTH), np.uint8)
    colours = np.array([(0, 0, 0), (200, 0, 0), (0, 0, 200)], np.uint8)
    for number, (left, top, right, bottom) in enumerate(BOXES.values(), 1):
        index[top:bottom, left:right] = number
    coco = {"images": [], "annotations": [], "categories": [{"id": 8, "name": "cat"}, {"id": 9, "name": "dog"}]}
    cvat = []
    for i in range(4):
        make_image(root / f"images/{i}.jpg")
        write_mask(root / f"colour_masks/{i}.png", colours[index])
        write_mask(root / f"binary_masks/{i}.png", (index > 0).astype(np.uint8) * 255)
        write_mask(root / f"index_masks/{i}.png", np.where(index == 0, 254, index).astype(np.uint8))
        coco["images"].append({"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH})
        shapes, elements = [], []
        for number, (name, (left, top, right, bottom)) in enumerate(BOXES.items(), 1):
            runs = coco_mask.encode(np.asfortranarray((index == number).astype(np.uint8)))
            segmentation = {"size": runs["size"], "counts": runs["counts"].decode()}
            coco["annotations"].append(
                {"id": 2 * i + number, "image_id": i, "category_id": 7 + number, "segmentation": segmentation}
            )
            shapes.append({"label": name, "shape_type": "rectangle", "points": [[left, top], [right - 1, bottom - 1]]})
            corners = f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
            elements.append(f'<box label="{name}" {corners} z_order="0"/>')
        write(root / f"labelme/{i}.json", {"shapes": shapes, "imageHeight": HEIGHT, "imageWidth": WIDTH})
        cvat.append(f'<image name="{i}.jpg" width="{WIDTH}" height="{HEIGHT}">{"".join(elements)}</image>')
    write(root / "colours.txt", "0 0 0 background\n200 0 0 cat\n#0000c8 dog\n")
    write(root / "coco.json", coco)
    write(root / "cvat.xml", f"<annotations>{''.join(cvat)}</annotations>")
    return index


def test_every_command_of_the_document_does_what_it_says(tmp_path, monkeypatch, capsys):
    """Each format gives the same map, and the last commands train on it."""
    make_tiny(monkeypatch.setattr)
    without_sheet(monkeypatch)
    monkeypatch.chdir(tmp_path)
    index = described_by_tools(tmp_path / "mine")
    blocks = re.findall(r"^```\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    expected = {
        "--input=mine/binary_masks": (index > 0).astype(np.uint8),
        "--input=mine/index_masks": np.where(index == 0, 255, index - (index > 0)).astype(np.uint8),
    }
    for python, m, module, *arguments in commands:
        assert (python, m) == ("python", "-m")
        if module == "deeplab_fast.train":
            assert train.main([*arguments, *TRAINING]) == 0
            continue
        assert module == "deeplab_fast.prepare"
        assert prepare.main(arguments) == 0
        said = capsys.readouterr().out
        if arguments[0] == "labels":
            found = np.array(Image.open("mine/labels/3.png"))
            assert np.array_equal(found, expected.get(arguments[1], index)), arguments
            assert Path("mine/classes.txt").read_text().splitlines()[-1] in ("dog", "foreground")
            last = said.splitlines()[-2:]
    assert [shlex.split(line) for line in last] == commands[-3:-1]
    assert Path("run/best.pt").is_file()


def test_what_is_written(root):
    convert(root, "masks", "--classes=wall,floor,$x^2$ sky")
    assert names(root) == ["wall", "floor", "$x^2$ sky"]
    counts = json.loads((root / "counts.json").read_text())
    assert counts["labels"] == 4
    assert sum(entry["pixels"] for entry in counts["classes"]) == 4 * HEIGHT * WIDTH
    assert [entry["images"] for entry in counts["classes"]] == [4, 4, 4]
    with Image.open(root / "sheet.png") as sheet:
        assert len(np.unique(np.asarray(sheet.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    assert {path.name for path in root.iterdir()} == {
        *("images", "masks", "labels", "classes.txt", "counts.json", "sheet.png", ".deeplab_fast_lists.json"),
    }


def test_an_image_that_is_damaged_is_left_off_the_sheet(root, caplog):
    data = (root / "images/2.jpg").read_bytes()
    (root / "images/2.jpg").write_bytes(data[: len(data) // 2])
    with caplog.at_level("WARNING", "deeplab_fast"):
        convert(root, "masks")
    assert "not on the sheet: " in caplog.text


def test_a_second_run_follows_its_source(root, monkeypatch):
    without_sheet(monkeypatch)
    before = convert(root, "masks")
    (root / "labels/1.png").unlink()
    write_mask(root / "masks/2.png", np.full((HEIGHT, WIDTH), 1, np.uint8))
    after = convert(root, "masks")
    assert np.array_equal(after["1"], before["1"])
    assert (after["2"] == 1).all()


@pytest.mark.parametrize("name", ["labels/3.png", "counts.json", "sheet.png"])
@pytest.mark.parametrize("ran", [False, True])
def test_a_file_of_others_is_not_written_over(root, monkeypatch, name, ran):
    without_sheet(monkeypatch)
    if ran:
        convert(root, "masks")
    write(root / name, "mine")
    assert f"{root / name}: this program did not write it" in refused(root, "masks")
    assert (root / name).read_text() == "mine"


def test_a_run_that_was_killed_goes_on(root, monkeypatch):
    """Its labels are there, and the note of them is not."""
    without_sheet(monkeypatch)
    convert(root, "masks")
    for name in (".deeplab_fast_lists.json", "counts.json", "sheet.png", "labels/3.png"):
        (root / name).unlink()
    assert len(convert(root, "masks")) == 4


def test_names_of_ones_own_are_read_and_stay(root, monkeypatch):
    without_sheet(monkeypatch)
    write(root / "classes.txt", "sky\r\nsea\r\nland\r\n")
    convert(root, "masks")
    assert (root / "classes.txt").read_bytes() == b"sky\r\nsea\r\nland\r\n"
    assert "did not write what is in it" in refused(root, "masks", "--classes=a,b,c")
    convert(root, "masks", f"--classes={root / 'classes.txt'}")
    write(root / "classes.txt", "sky\nsea\n")
    assert f"expected one of 2 classes ({root / 'classes.txt'})" in refused(root, "masks")


def test_images_without_a_label_are_left_out_by_a_list(root, monkeypatch, capsys):
    without_sheet(monkeypatch)
    make_image(root / "images/with space.jpg")
    (root / "masks/1.png").unlink()
    assert "2 of 5 images have no label: 1.jpg, with space.jpg" in refused(root, "masks")
    assert "class 0 is not named background" in refused(root, "masks", "--unlabelled=background", "--classes=a,b,c")
    capsys.readouterr()
    convert(root, "masks", "--unlabelled=skip")
    assert (root / "labelled_lst.txt").read_text().splitlines() == [f"images/{i}.jpg labels/{i}.png" for i in (0, 2, 3)]
    assert json.loads((root / "counts.json").read_text())["left_out"] == {"image without a label": 2}
    command = shlex.split(capsys.readouterr().out.splitlines()[-2])
    assert command[:4] == ["python", "-m", "deeplab_fast.prepare", "check"]
    assert prepare.main(command[3:]) == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--output={root}/images"], "is --image_dir, or within it or above it"),
        (["--output={root}/images/labels"], "is --image_dir, or within it or above it"),
        (["--output={root}/masks/new"], "is --input, or within it or above it"),
        (["--output={root}"], "is --image_dir, or within it or above it"),
        (["--output={root}/out/labels"], "does not hold both the labels and the images"),
        (["--palette=voc", "--binary"], "--palette: expected without --binary"),
        (["--binary", "--reduce_zero_label"], "--binary and --reduce_zero_label"),
        (["--unsupported=skip"], "--unsupported: is of cvat and labelme; the labels are masks"),
        (["--format=coco"], "expected a file (--format=coco)"),
        (["--label_suffix=_x"], "0_x.png"),
        (["--classes=a,b,a"], "--classes: 'a' again"),
        (["--image_dir={root}/nothing"], "nothing: no such folder"),
    ],
)
def test_mistakes(root, flags, said):
    assert said in refused(root, "masks", *(flag.format(root=root) for flag in flags))
    assert not (root / "labels").exists()


def test_one_folder_above_labels_and_images_may_be_named(root, monkeypatch):
    without_sheet(monkeypatch)
    convert(root, "masks", f"--output={root / 'out/labels'}", f"--data_root={root}")
    assert (root / "out/labels/0.png").is_file()
    assert names(root) == ["class 0", "class 1", "class 2"]
    monkeypatch.chdir(root / "masks")
    convert(root, "masks", "--output=../out/labels", f"--data_root={root}")


def test_two_images_of_one_name_are_refused(root):
    make_image(root / "images/1.png")
    assert "its label would have the name of" in refused(root, "masks")


def test_a_folder_that_cannot_be_written_is_named_before_any_work(root):
    write(root / "file", "")
    assert "is not a folder" in refused(root, "masks", f"--output={root}/file/labels", f"--data_root={root}")


def test_ctrl_c_leaves_whole_labels(root, monkeypatch):
    without_sheet(monkeypatch)
    from deeplab_fast.data.annotations import convert as conversion

    encode = conversion._png

    def interrupted(label):
        if len(list((root / "labels").glob("*.png"))) == 2:
            raise KeyboardInterrupt
        return encode(label)

    monkeypatch.setattr(conversion, "_png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(root, "masks")
    assert {path.name for path in (root / "labels").iterdir()} == {"0.png", "1.png"}
    monkeypatch.setattr(conversion, "_png", encode)
    write_mask(root / "masks/0.png", np.full((HEIGHT, WIDTH), 1, np.uint8))
    after = convert(root, "masks")
    assert len(after) == 4
    assert (after["0"] == 1).all(), "its label was ours to write anew"


def test_a_full_disk_is_one_line(root, monkeypatch):
    without_sheet(monkeypatch)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"/\S+: cannot be written \(No space left on device\)"):
        convert(root, "masks")
