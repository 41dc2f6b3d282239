"""The command line: what --input means, what --save writes, and that a second run takes it as done."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import deeplab_fast
from deeplab_fast import predict, prepare
from deeplab_fast.errors import UserError
from tests.prediction.networks import NAMES

STEMS = ["a", "b", "süd see/ü 1"]


@pytest.fixture
def run(weights, photos, tmp_path):
    def call(*flags, source=photos, out=tmp_path / "out"):
        given = [f"--ckpt_path={weights}", f"--input={source}", f"--output={out}", "--device_target=CPU"]
        return predict.main([*given, "--precision=fp32", *flags])

    return call


def made(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def contents(folder):
    return {name: (folder / name).read_bytes() for name in made(folder)}


def test_everything_is_written_and_a_second_run_finds_it_done(run, weights, photos, tmp_path, capsys):
    flags = ["--save=classes,overlay,probabilities,areas,polygons", "--batch_size=2"]
    assert run(*flags) == 0
    out = tmp_path / "out"
    ends = (".png", "_overlay.jpg", "_probabilities.npz")
    over_all = ["areas.csv", "areas.json", "polygons.json", "predict.json"]
    assert made(out) == sorted([*(stem + end for stem in STEMS for end in ends), *over_all])
    assert json.loads((out / "predict.json").read_text())["classes"] == NAMES
    segment = deeplab_fast.Segmenter(weights, device_target="CPU", precision="fp32")
    for stem in STEMS:
        expected = segment(photos / f"{stem}.png")
        found = np.asarray(Image.open(out / f"{stem}.png"))
        assert (found != expected.classes).mean() < 0.01  # another batch size rounds differently
        stored = np.load(out / f"{stem}_probabilities.npz")
        assert stored["probabilities"].dtype == np.float16
        assert np.abs(stored["probabilities"] - expected.probabilities).mean() < 0.01
    before = contents(out)
    capsys.readouterr()
    assert run(*flags) == 0
    assert "3 of them by an earlier run" in capsys.readouterr().out
    assert contents(out) == before


@pytest.mark.parametrize("name", ["b_overlay.jpg", "b_probabilities.npz", "b.png"])
def test_what_was_cut_short_is_made_again(run, tmp_path, name, capsys):
    flags = ["--save=classes,overlay,probabilities"]
    run(*flags)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(before[name][:100])
    assert run(*flags) == 0
    assert "2 of them by an earlier run" in capsys.readouterr().out
    after = contents(tmp_path / "out")
    assert {n for n in before if before[n] != after[n] and not n.endswith(".npz")} == set()  # a zip holds its time


def test_areas_count_the_written_classes(run, tmp_path):
    run("--save=classes,areas")
    out = tmp_path / "out"
    masks = {f"{stem}.png": np.asarray(Image.open(out / f"{stem}.png")) for stem in STEMS}
    rows = list(csv.DictReader((out / "areas.csv").open(encoding="utf-8")))
    expected = {(name, int(c)): int((mask == c).sum()) for name, mask in masks.items() for c in np.unique(mask)}
    assert {(row["image"], int(row["class"])): int(row["pixels"]) for row in rows} == expected
    assert all(row["name"] == NAMES[int(row["class"])] for row in rows)
    for name in masks:
        assert sum(float(row["share"]) for row in rows if row["image"] == name) == pytest.approx(1, abs=1e-4)
    content = json.loads((out / "areas.json").read_text())
    whole = np.concatenate([mask.ravel() for mask in masks.values()])
    assert content["total"]["pixels"] == np.bincount(whole, minlength=3).tolist()
    assert [(i["image"], i["width"], i["height"]) for i in content["images"]] == [
        (name, mask.shape[1], mask.shape[0]) for name, mask in masks.items()
    ]
    assert not list(out.glob("*_overlay.jpg"))


@pytest.mark.parametrize("polygon_format", ["rle", "outline"])
def test_polygons_are_what_pycocotools_and_our_own_reader_understand(run, photos, tmp_path, capsys, polygon_format):
    coco = pytest.importorskip("pycocotools.coco")
    run("--save=classes,polygons", f"--polygon_format={polygon_format}")
    out = tmp_path / "out"
    data = coco.COCO(str(out / "polygons.json"))
    assert [c["name"] for c in data.cats.values()] == NAMES[1:]
    for image in data.imgs.values():
        mask = np.asarray(Image.open(out / image["file_name"]))
        found = np.zeros_like(mask)
        annotations = data.imgToAnns[image["id"]]
        for one in annotations:
            pixels = data.annToMask(one).astype(bool)
            assert pixels.sum() == one["area"]
            rows, columns = np.nonzero(pixels)
            x, y, w, h = one["bbox"]
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + w, y + h)
            found[pixels] = one["category_id"]
        assert np.array_equal(found, mask)
        assert len(annotations) == len(set(np.unique(mask)) - {0})
    flags = [f"--input={out / 'polygons.json'}", f"--image_dir={photos}", f"--output={tmp_path / 'labels'}"]
    assert prepare.main(["labels", *flags]) == 0
    for stem in STEMS:
        label = np.asarray(Image.open(tmp_path / "labels" / f"{stem}.png"))
        assert np.array_equal(label, np.asarray(Image.open(out / f"{stem}.png")))


@pytest.mark.parametrize("which", ["1", "tree"])
def test_the_probability_of_one_class(run, weights, photos, tmp_path, which, capsys):
    assert run("--save=classes,probabilities", f"--probability_of={which}") == 0
    found = Image.open(tmp_path / "out/a_probability.png")
    expected = deeplab_fast.Segmenter(weights, device_target="CPU", precision="fp32")(photos / "a.png").probabilities[1]
    assert found.mode == "L"
    assert np.abs(np.asarray(found) / 255 - expected).max() <= 0.5 / 255 + 1e-6
    # It carries the mark: no later prediction takes it for a photo.
    assert run(source=tmp_path, out=tmp_path / "other") == 0
    assert "3 images segmented" in capsys.readouterr().out


def test_overlays_and_colours_by_flag(run, weights, photos, tmp_path):
    (tmp_path / "colours.txt").write_text("#0a141e sea\r\n255 0 0 ground\n0 200 0 tree\n", encoding="utf-8")
    flags = ["--clear", "--outlines", "--legend", f"--palette={tmp_path / 'colours.txt'}"]
    assert run(*flags) == 0
    mask = Image.open(tmp_path / "out/a.png")
    assert mask.getpalette()[:9] == [255, 0, 0, 0, 200, 0, 10, 20, 30]
    expected = deeplab_fast.Segmenter(weights, device_target="CPU", precision="fp32")(photos / "a.png")
    assert np.array_equal(np.asarray(mask), expected.classes)
    overlay = Image.open(tmp_path / "out/a_overlay.jpg")
    assert overlay.width >= 90
    assert overlay.height > 60
    clear = expected.classes == 0
    difference = np.abs(np.asarray(overlay)[:60, :90][clear].astype(int) - expected.image[clear])
    assert np.median(difference) < 12  # JPEG's
    (tmp_path / "colours.txt").write_text("#0a141f sea\n255 0 0 ground\n0 200 0 tree\n", encoding="utf-8")
    with pytest.raises(UserError, match="differs in --palette="):
        run(*flags)


def test_a_palette_of_other_names_gives_its_colours_in_order(run, tmp_path):
    (tmp_path / "p.txt").write_text("1 2 3 x\n4 5 6 y\n9 9 9 y\n7 8 9 z\n")
    run("--save=classes", f"--palette={tmp_path / 'p.txt'}")
    assert Image.open(tmp_path / "out/a.png").getpalette()[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("pattern", "stems"),
    [("*.png", ["a", "b"]), ("**/*.png", ["a", "b", "süd see/ü 1"]), ("*/ü*", ["süd see/ü 1"]), ("[a].png", ["a"])],
)
def test_a_pattern_s_results_lie_below_its_last_plain_folder(run, photos, tmp_path, pattern, stems):
    (photos / "a note.txt").write_text("")
    assert run("--save=classes", source=photos / pattern) == 0
    assert made(tmp_path / "out") == sorted([f"{stem}.png" for stem in stems] + ["predict.json"])


def test_a_file_whose_name_looks_like_a_pattern(run, photos, tmp_path):
    (photos / "a.png").rename(photos / "a[1].png")
    assert run("--save=classes", source=photos / "a[1].png") == 0
    assert made(tmp_path / "out") == ["a[1].png", "predict.json"]


def test_a_list_of_images(run, photos, tmp_path):
    lines = ["b.png labels/b.png", "", "süd see/ü 1.png", "süd see/ü 1.png", str(photos / "a.png")]
    (photos / "some.txt").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    assert run("--save=classes", source=photos / "some.txt") == 0
    assert made(tmp_path / "out") == ["a.png", "b.png", "predict.json", "süd see/ü 1.png"]


def test_an_image_of_a_list_that_is_not_there_is_named_at_the_end(run, photos, tmp_path, capsys):
    (photos / "some.txt").write_text("none.png\na.png\n")
    assert run("--save=classes,areas", source=photos / "some.txt") == 1
    assert "1 of 2 images could not be segmented" in capsys.readouterr().err
    assert made(tmp_path / "out") == ["a.png", "areas.csv", "areas.json", "predict.json"]
    assert [i["image"] for i in json.loads((tmp_path / "out/areas.json").read_text())["images"]] == ["a.png"]


def test_a_batch_that_is_too_large_goes_one_by_one(run, photos, tmp_path, monkeypatch, capsys):
    from deeplab_fast.prediction.network import Network

    whole, seen = Network.score, []

    def score(self, images):
        seen.append(len(images))
        if len(images) > 1 or images[0].shape[0] == 70:
            raise MemoryError
        return whole(self, images)

    monkeypatch.setattr(Network, "score", score)
    assert run("--save=classes", "--batch_size=3") == 1
    assert seen == [3, 1, 1, 1]
    assert "b.png: not enough memory for it" in capsys.readouterr().err
    assert made(tmp_path / "out") == ["a.png", "predict.json", "süd see/ü 1.png"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--save=masks"], "--save=masks: expected some of classes, overlay, probabilities, areas, polygons"),
        (["--probability_of=tree"], "--probability_of=tree: needs --save=probabilities"),
        (["--save=probabilities", "--probability_of=dog"], "--probability_of: 'dog' is not a class"),
        (["--save=probabilities", "--probability_of=0,1"], "--probability_of=0,1: expected one class"),
        (["--palette=none.txt"], "none.txt: No such file"),
        (["--batch_size=0"], "--batch_size=0: expected at least 1"),
    ],
)
def test_a_wrong_flag_is_said_before_the_work(run, tmp_path, flags, message):
    with pytest.raises(UserError) as caught:
        run(*flags)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_wrong_input_is_one_line(run, photos, tmp_path):
    (photos / "empty.txt").write_text("\n")
    (photos / "three.txt").write_text("a.png b.png c.png\n")
    (tmp_path / "short.txt").write_text("1 2 3 x\n")
    for source, flags, message in (
        (photos / "*.gif", [], "no image and no video; expected files ending in"),
        (photos / "empty.txt", [], "empty.txt: empty; expected a list of images"),
        (photos / "three.txt", [], "three.txt, line 1: 3 words; expected one image"),
        (photos, [f"--palette={tmp_path / 'short.txt'}"], "names 1 classes; expected the network's 3"),
    ):
        with pytest.raises(UserError, match=message.replace("[", "\\[")):
            run(*flags, source=source)


def test_somebody_s_areas_are_not_replaced(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/areas.csv").write_text("mine")
    with pytest.raises(UserError, match=r"areas\.csv is no result of this program"):
        run("--save=classes,areas")
    assert (tmp_path / "out/areas.csv").read_text() == "mine"
    assert run("--save=classes,areas", "--overwrite") == 0


def test_areas_can_be_asked_for_later_and_probabilities_not_unsaid(run, tmp_path, capsys):
    run("--save=classes")
    assert run("--save=classes,areas", "--overlay=0") == 0
    assert "3 of them by an earlier run" in capsys.readouterr().out
    with pytest.raises(UserError, match="differs in --save="):
        run("--save=classes,probabilities")


def test_provenance_of_an_earlier_version_is_this_one_s(run, tmp_path, capsys):
    """Results from before these flags are still taken as done, by the flags that give the same."""
    run("--clear=False", "--outlines=False")
    flags = json.loads((tmp_path / "out/predict.json").read_text())["provenance"]["flags"]
    assert not {"save", "clear", "outlines", "legend", "palette", "probability_of", "batch_size"} & set(flags)
    assert flags["overlay"] == 0.5


def test_pillow_s_limit_is_not_ours(run, tmp_path, monkeypatch, capsys):
    """Of images beyond it, results are gone on with and counted as those of any other size."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert run("--save=classes,areas") == 0
    assert run("--save=classes,areas") == 0
    assert "3 of them by an earlier run" in capsys.readouterr().out


def test_a_list_names_files_from_anywhere(run, photos, tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/some.txt").write_text(f"{photos / 'a.png'}\n../photos/b.png\n")
    monkeypatch.chdir(tmp_path)
    assert run("--save=classes", source="lists/some.txt") == 0
    assert made(tmp_path / "out") == ["a.png", "b.png", "predict.json"]


def test_results_that_match_a_pattern_are_left_out(run, photos, tmp_path, capsys):
    assert run("--save=classes,overlay", source=photos / "*.png", out=photos / "masks") == 0
    capsys.readouterr()
    assert run("--save=classes", source=photos / "**/*.png") == 0
    assert "3 images segmented" in capsys.readouterr().out
    assert not (tmp_path / "out/masks").exists()
