"""The commands of the documents run, in their order, on small files of the names that they give.

``RUN_BY`` says which test runs a section's blocks; ``PARSED_ONLY``, why none does.
"""

import importlib
import importlib.util

import pytest
import torch
from PIL import Image

from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model, resnet
from tests.documents import DOCUMENTS, ROOT, block_commands, blocks
from tests.faults.tiny import make_tiny
from tests.prediction.networks import picture
from tests.trials.samples import write_samples

HERE = "tests/test_document_runs.py"
RUN_BY = {
    ("README.md", "Your own data"): HERE,
    ("docs/data.md", "Your own data"): HERE,
    ("docs/data.md", "Splits"): HERE,
    ("docs/predict.md", "From Python"): HERE,
    ("docs/predict.md", "Folders and the Hugging Face Hub"): HERE,
    ("docs/predict.md", "From the command line"): HERE,
    ("docs/predict.md", "Videos"): HERE,
    ("docs/predict.md", "Large images"): HERE,
    ("docs/weights.md", "To another format"): HERE,
    ("docs/runs.md", "Evaluation, prediction, export"): HERE,
    ("docs/migration.md", ""): "tests/test_migration.py",
    ("docs/own_data.md", ""): "tests/data/test_prepare_labels.py",
    ("docs/tutorial.md", ""): "tests/test_tutorial.py",
}
PARSED_ONLY = {
    ("README.md", "Install"): "installs",
    ("README.md", "Demo"): "takes minutes; CI runs make test",
    ("README.md", "VOC 2012"): "needs the network, 2 GB of data and a GPU",
    ("CONTRIBUTING.md", "Contributing"): "what CI runs",
    ("CONTRIBUTING.md", "Other versions, and wheels"): "installs several environments",
    ("CONTRIBUTING.md", "What earlier versions left"): "writes into the tree",
    ("docs/compare.md", "Beside torchvision's reference"): "trains for minutes: tests/compare compares small runs",
    ("docs/data.md", "VOC 2012 and SBD"): "needs the network; tests/download and tests/prepare run it on small files",
    ("docs/data.md", "Records"): "needs MindRecord; tests/test_migration.py runs the same command",
    ("docs/evaluation.md", "Evaluation"): "needs VOC 2012: tests/evaluation runs each protocol",
    ("docs/export.md", "Export"): "exports a large network: tests/exporting writes every kind of file",
    ("docs/export.md", "8 bits"): "exports a large network: tests/exporting/test_int8.py",
    ("docs/export.md", "Use without this package"): "tests/exporting/test_formats.py runs the whole programs",
    ("docs/flags.md", "Weights by name"): "needs the network",
    ("docs/install.md", "Installing"): "installs",
    ("docs/performance.md", "From symptom to bottleneck"): "reports the machine: tests/test_runtime.py",
    ("docs/performance.md", "The loader alone"): "measures for seconds: tests/test_benchmarks.py",
    ("docs/performance.md", "The step alone"): "measures for seconds: tests/test_profiling.py, test_roofline.py",
    ("docs/predict.md", "Training and evaluation"): "trains for hours: tests/test_segmenter_runs.py",
    ("docs/predict.md", "With the Hub"): "needs the network: tests/prediction/test_hub.py",
    ("docs/recipes.md", "Recipes"): "tests/test_recipes.py trains each recipe",
    ("docs/runs.md", "Pages"): "needs finished runs: tests/report/test_run_pages.py",
    ("docs/several_gpus.md", "Several GPUs"): "starts processes: tests/integration/test_distributed.py",
    ("docs/weights.md", "Whose files are read"): "needs Paddle",
    ("docs/weights.md", "A run of the MindSpore recipe goes on here"): "needs a run: tests/training runs such",
}
TRAIN = ["--max_steps=1", "--crop_size=33", "--batch_size=2", "--num_workers=0", "--precision=fp32", "--fused=off"]
MORE = {"train": [*TRAIN, "--device_target=CPU"], "eval": ["--device_target=CPU"], "predict": ["--device_target=CPU"]}
NAMES = ["ground", "tree", "sea"]


def save(path, **config):
    """Write weights with the configuration that predicts with them."""
    path.parent.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = build_model(ModelConfig(backbone="resnet18", num_classes=len(NAMES), **config)).state_dict()
    kept = {"backbone": "resnet18", "num_classes": len(NAMES), "crop_size": 33}
    content = {"format": "deeplab_fast.weights/1", "model": model, "config": kept, "names": NAMES}
    torch.save(model if config else content, path)


def write_clips(*paths):
    """Write videos of two frames."""
    from tests.prediction.videos import pictures, write_video

    for path in paths:
        path.parent.mkdir(exist_ok=True)
        write_video(path, pictures(2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with data in ``mine`` and ``maps``, photographs, weights; ResNet-101 is tiny."""
    make_tiny(monkeypatch.setattr, "resnet101", resnet.Bottleneck)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "maps"):
        write_samples(tmp_path / name, classes=3)
    (tmp_path / "maps/val.txt").rename(tmp_path / "maps/val_lst.txt")
    for path in tmp_path.glob("mine/*/*.*g"):
        path.rename(path.with_name(f"{int(path.stem) // 3}_{path.name}"))  # as videos' frames are named
    (tmp_path / "mine/classes.txt").write_text("\n".join(NAMES))
    stems = sorted(path.stem for path in tmp_path.glob("mine/images/*"))
    for name, part in {"train.txt": stems[:8], "val.txt": stems[8:]}.items():
        (tmp_path / name).write_text("\n".join(part))
    (tmp_path / "photos/more").mkdir(parents=True)
    for name in ("photo.jpg", "photos/a.jpg", "photos/more/b.jpg"):
        Image.fromarray(picture(40, 50)).save(name)
    if importlib.util.find_spec("av"):
        write_clips(tmp_path / "clip.mp4", tmp_path / "clips/a.mp4")
    save(tmp_path / "ckpt/best.pt")
    save(tmp_path / "theirs.pth", head="torchvision")
    return tmp_path


def run_command(words):
    python, m, module, *arguments = words
    assert (python, m) == ("python", "-m")
    program = importlib.import_module(module)
    if module == "deeplab_fast.runtime":
        program = importlib.import_module("deeplab_fast.runtime.__main__")
    assert program.main([*arguments, *MORE.get(module.removeprefix("deeplab_fast."), [])]) in (0, None)


@pytest.mark.long
@pytest.mark.parametrize(("document", "section"), [key for key, test in RUN_BY.items() if test == HERE], ids=str)
def test_the_blocks_of_a_section_run(folder, document, section):
    if section == "Videos":
        pytest.importorskip("av")
    commands = [one for one in block_commands(ROOT / document) if one.section == section]
    for command in commands:
        run_command(command.words)
    names = {}
    python = [one for one in blocks(ROOT / document) if one.section == section and one.language == "python"]
    for block in python:
        exec(block.text.replace('Segmenter("ckpt/best.pt"', 'Segmenter("ckpt/best.pt", device_target="CPU"'), names)
    assert commands or python


def test_every_section_with_blocks_is_run_or_has_a_reason():
    found = {(b.document, b.section) for d in DOCUMENTS for b in blocks(d) if b.language in ("", "python")}
    run = {key for key in found if key in RUN_BY or (key[0], "") in RUN_BY}
    assert found - run == set(PARSED_ONLY)
    assert {key for key in RUN_BY if key[1]} <= found


@pytest.mark.parametrize(("key", "test"), RUN_BY.items(), ids=str)
def test_the_test_that_runs_a_document_names_it(key, test):
    assert key[0] in (ROOT / test).read_text()
