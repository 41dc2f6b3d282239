"""Small things: switches, prefixes, reports, and who says an error."""

import importlib.util
import os
import socket
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import torch

from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model
from tests.trials.samples import CLASSES, small

REPO = Path(__file__).parent.parent.parent


@pytest.fixture
def load(monkeypatch):
    """Ask for the extension as a new process would, with DEEPLAB_FAST_NO_EXT set; the reason why it is not there."""
    from deeplab_fast.ops import extension

    def reason(value):
        monkeypatch.setenv("DEEPLAB_FAST_NO_EXT", value)
        extension.load.cache_clear()
        return extension.load()[1]

    yield reason
    monkeypatch.undo()
    extension.load.cache_clear()


def test_e9_a_switch_that_says_no_is_off(load):
    assert [load(word) for word in ("1", "true", "YES")] == ["switched off by DEEPLAB_FAST_NO_EXT"] * 3
    for word in ("0", "false", "No", "off", ""):
        assert "switched off" not in load(word)


def test_e9_a_source_that_hides_the_installed_package_says_so(load, monkeypatch, tmp_path):
    """Python takes the package of a clone in which ``pip install .`` was called, and which has no extension."""
    monkeypatch.setitem(sys.modules, "deeplab_fast._C", None)  # as if it were not built
    monkeypatch.setattr("sys.path", ["", str(tmp_path)])
    assert "build it with 'pip install -e .'" in load("")
    (tmp_path / "deeplab_fast").mkdir()
    (tmp_path / "deeplab_fast/_C.pyi").touch()  # comes with every copy
    assert "build it with 'pip install -e .'" in load("")
    (tmp_path / f"deeplab_fast/_C{EXTENSION_SUFFIXES[0]}").touch()
    assert f"hides the installed {tmp_path / 'deeplab_fast'}, which has it; run from another folder" in load("")


def test_e9_a_switch_that_says_neither_is_an_error(load):
    from deeplab_fast.errors import UserError

    with pytest.raises(UserError, match=r"^DEEPLAB_FAST_NO_EXT=perhaps: expected 1 or 0$"):
        load("perhaps")


def test_e9_the_interpreter_is_on_where_triton_says_so(monkeypatch):
    found = {}
    for word in ("true", "ON", "yes", "1", "0", ""):
        monkeypatch.setenv("TRITON_INTERPRET", word)
        path = REPO / "deeplab_fast" / "ops" / "triton" / "__init__.py"
        spec = importlib.util.spec_from_file_location("deeplab_fast.ops.triton", path)
        module = importlib.util.module_from_spec(spec)  # not the one that is imported already
        spec.loader.exec_module(module)
        found[word] = module.INTERPRETED
    assert found == {"true": True, "ON": True, "yes": True, "1": True, "0": False, "": False}


def test_e9_the_build_leaves_out_what_is_named_and_nothing_else(monkeypatch):
    """setup.py without its second half, which builds."""
    names = {}
    exec((REPO / "setup.py").read_text().split("class BuildExtension")[0], names)
    for value, parts in (("0", set()), ("", set()), ("false", set()), ("cuda,png", {"cuda", "png"})):
        monkeypatch.setenv("DEEPLAB_FAST_WITHOUT", value)
        assert names["excluded"]() == parts
    monkeypatch.setenv("DEEPLAB_FAST_WITHOUT", "cudaa")
    with pytest.raises(SystemExit, match="DEEPLAB_FAST_WITHOUT=cudaa: expected some of jpeg, png, deflate, cuda"):
        names["excluded"]()
    monkeypatch.setenv("DEEPLAB_FAST_SANITIZE", "0")
    assert names["words_of"]("DEEPLAB_FAST_SANITIZE") == []


def test_e7_the_report_obeys_fused_off_and_names_its_weights(samples, tmp_path, monkeypatch):
    from deeplab_fast import train
    from deeplab_fast.evaluation import protocol

    asked = []
    upsample = protocol.upsample_argmax

    def upsample_argmax(views, targets, align_corners, fused="auto"):
        asked.append(fused)
        return upsample(views, targets, align_corners, fused)

    monkeypatch.setattr(protocol, "upsample_argmax", upsample_argmax)
    data = [f"--data_root={samples}", f"--data_lst={samples}/train.txt", f"--val_data_lst={samples}/val.txt"]
    flags = small(*data, f"--train_dir={tmp_path / 'run'}", "--fused=off", "--max_steps=1", "--track=")
    train.main(flags)
    assert asked == ["off"] * 3  # two images, evaluated together and each drawn
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "Predictions of the last weights, step 1. Chosen among all images" in page


def two_processes(name, *flags):
    """Run a program in two processes that nobody else ends; returns their exit statuses and what both said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", f"deeplab_fast.{name}", *flags]
    places = [{**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=place) for place in places]
    try:
        said = "".join(process.communicate(timeout=300)[1] for process in started)
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], said


def save_network(path):
    model = build_model(ModelConfig(backbone="resnet18", num_classes=CLASSES))
    config = {"backbone": "resnet18", "num_classes": CLASSES, "crop_size": 33}
    torch.save({"format": "deeplab_fast.weights/1", "model": model.state_dict(), "config": config}, path)
    return path


def test_e8_a_flag_that_cannot_be_is_said_once(monkeypatch, capsys):
    """Every process finds it, before they know of each other; the first of the host says it."""
    from deeplab_fast import cli
    from deeplab_fast import eval as program

    monkeypatch.setattr("sys.argv", ["eval", "--batch_size=0"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, said in ((0, "error: --batch_size=0: expected at least 1\n"), (1, "")):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        with pytest.raises(SystemExit) as ended:
            cli.run(program.main)
        assert ended.value.code == 2
        assert capsys.readouterr().err == said


def test_e8_what_every_process_finds_is_said_once(samples, tmp_path):
    flags = [f"--ckpt_path={save_network(tmp_path / 'n.pt')}", f"--data_root={samples}", "--data_lst=none.txt"]
    statuses, said = two_processes("eval", *flags, "--device_target=CPU")
    assert statuses == [2, 2], said
    assert said.count("error: none.txt: No such file or directory; expected a list file") == 1


def test_e8_what_one_process_finds_ends_all_with_one_line(samples, tmp_path):
    """The second process's only image is damaged; the first has nothing to complain of."""
    bad = samples / "images/11.jpg"
    bad.write_bytes(bad.read_bytes()[:700])
    flags = [f"--ckpt_path={save_network(tmp_path / 'n.pt')}", f"--data_root={samples}"]
    statuses, said = two_processes("eval", *flags, f"--data_lst={samples}/val.txt", "--device_target=CPU")
    assert statuses == [2, 2], said
    assert said.count("error: ") == 1
    assert f"error: {bad}: cannot be decoded" in said
    assert "Traceback" not in said
