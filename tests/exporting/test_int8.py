"""Files in 8 bits are smaller, close to the original by a measured share, and refused below a limit."""

import shutil

import pytest

from deeplab_fast import export
from deeplab_fast.errors import UserError
from deeplab_fast.exporting import save

pytest.importorskip("onnxruntime")


@pytest.fixture
def flags(checkpoints, photos, onnx_file, monkeypatch):
    """Flags whose file in fp32 is there already."""
    form = save.FORMATS["onnx"]._replace(write=lambda program, config, words, path: shutil.copy(onnx_file, path))
    monkeypatch.setitem(save.FORMATS, "onnx", form)
    monkeypatch.setattr(save, "trace", lambda *_: None)
    data = [f"--int8_images={photos}/images", f"--data_root={photos}", f"--data_lst={photos}/list.txt"]
    return [f"--ckpt_path={checkpoints['recipe']}", "--input_kind=uint8", "--output_kind=classes", *data]


@pytest.mark.long
def test_int8_is_smaller_and_stores_its_figures(flags, tmp_path, capsys, onnx_file):
    import onnx

    path = tmp_path / "8 bits.onnx"
    assert export.main([*flags, f"--output={path}", "--int8_agreement=0.5"]) == 0
    said = capsys.readouterr().out
    network = onnx.load(path)
    about = {entry.key: entry.value for entry in network.metadata_props}
    assert path.stat().st_size < 0.4 * onnx_file.stat().st_size
    assert 0.9 < float(about["int8_agreement"]) < 1
    assert f"mIoU {about['int8_miou']}, the original's {about['fp32_miou']}" in said
    assert abs(float(about["int8_miou"][:-1]) - float(about["fp32_miou"][:-1])) < 5
    assert about["quantisation"].endswith("ranges of 4 images")
    assert about["input_kind"] == "uint8"
    scales = [node.input[1] for node in network.graph.node if node.op_type == "DequantizeLinear"]
    sizes = {weight.name: list(weight.dims) for weight in network.graph.initializer}
    assert [64] in [sizes[name] for name in scales if name in sizes]  # one for each channel


@pytest.mark.long
def test_int8_below_its_limit_leaves_the_earlier_file(flags, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("an earlier model")
    with pytest.raises(UserError, match=r"in 8 bits labels agree on 9.*expected --int8_agreement=1 or more"):
        export.main([*flags, f"--output={path}", "--int8_agreement=1"])
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"m.onnx": "an earlier model"}
