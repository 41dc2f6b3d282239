"""Whether the products agree with their references is asked in another process once, and remembered."""

import json
import re
import subprocess
import sys

import pytest
import torch

from deeplab_fast.ops.conv import gemm, gemm_check
from tests.ops.gemm_stand_in import put_in_place
from tests.ops.kernels import DEVICE

pytestmark = pytest.mark.gpu

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def stand_in(monkeypatch):
    return put_in_place(monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("kind", gemm_check.KINDS)
def test_kernels_that_agree(stand_in, kind):
    assert gemm_check.compared(CPU, kind) is None


@pytest.mark.parametrize("kind", gemm_check.KINDS)
@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
def test_those_of_this_gpu_agree(kind):
    if reason := gemm.missing(DEVICE):
        pytest.skip(reason)
    assert gemm_check.compared(DEVICE, kind) is None


@pytest.mark.parametrize(
    ("kernel", "change", "message"),
    [
        ("conv1x1_cuda", lambda y, parts: y[-1].zero_(), "a product of torch.float16: the result is .* off"),
        ("conv1x1_cuda", lambda y, parts: parts[0, 1].mul_(1.1), "a product of torch.float16: sum 1 of its parts"),
        ("conv1x1_cuda", lambda y, parts: parts[-1, 0].add_(1), "a product of torch.float16: sum 0 of its parts"),
        ("conv1x1_cuda", lambda y, parts: parts[1, 2, 3:].zero_(), "a product of torch.float16: sum 2 of its parts"),
        ("conv1x1_cuda", lambda y, parts: y[0, 0].fill_(float("nan")), "a product of torch.float16: the result is nan"),
        ("conv1x1_gradient_cuda", lambda dz, parts: parts[-1].zero_(), "a gradient of torch.float16: sum 0 of"),
        ("conv3x3_cuda", lambda y, parts: y[-1].zero_(), "a 3x3 convolution of torch.bfloat16: the result is"),
        ("conv3x3_gradient_cuda", lambda dz, parts: dz[0].neg_(), "a gradient of a 3x3 convolution of .*: the result"),
    ],
)
def test_kernels_that_do_not_agree(stand_in, monkeypatch, kernel, change, message):
    right = getattr(stand_in, kernel)

    def wrong(type_, *given):
        right(type_, *given)
        kinds = 2 if "gradient" in kernel else 3
        if "3x3" in kernel:
            out, parts, (n, h, w, _), _, c, k, _ = given[-7:]
            rows = n * h * w
        else:
            out, parts, rows, c, k, _ = given[-6:]
        columns = c if kinds == 2 else k
        change(
            stand_in.at(out, type_, rows, columns), stand_in.at(parts, "float32", gemm.parts_of(rows), kinds, columns)
        )

    monkeypatch.setattr(stand_in, kernel, wrong)
    kind = "3x3" if "3x3" in kernel else "1x1"
    assert re.match(message, gemm_check.compared(CPU, kind) or "")


# ---------------------------------------------------------------- once, elsewhere


WRONG = subprocess.CompletedProcess([], 0, "a product is off\n", "")


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the other process answers, to be set; counts how often it was asked."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")

    class Asked:
        answer, commands = subprocess.CompletedProcess([], 0, "", ""), []

        def run(self, command, **options):
            self.commands.append(command)
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        def question(self, kind="1x1"):
            return gemm_check.disagreement.__wrapped__.__wrapped__(GPU, kind)

    asked = Asked()
    asked.commands = []
    monkeypatch.setattr(subprocess, "run", asked.run)
    return asked


def test_a_verdict_is_remembered(asked, tmp_path):
    assert asked.question() is None
    assert asked.question() is None
    assert asked.commands == [[sys.executable, "-m", "deeplab_fast.ops.conv.gemm_check", "1x1", "0"]]
    assert asked.question("3x3") is None
    assert len(asked.commands) == 2
    kept = sorted((tmp_path / "deeplab_fast" / "gemm-check").iterdir())
    assert [json.loads(path.read_text()) for path in kept] == [{"gpu": "a GPU", "disagreement": None}] * 2


def test_of_another_gpu_or_another_cuda_it_is_asked_anew(asked, monkeypatch):
    asked.question()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "another GPU")
    asked.question()
    assert len(asked.commands) == 2
    monkeypatch.setattr(torch.version, "cuda", "99.0")
    asked.question()
    assert len(asked.commands) == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (WRONG, "a product is off"),
        (subprocess.CompletedProcess([], -11, "", "one\nan illegal address\n"), "status -11: an illegal address"),
        (subprocess.CompletedProcess([], 1, "", ""), "status 1: no message"),
        (subprocess.TimeoutExpired([], 120), "gave no answer in 120 s"),
    ],
)
def test_what_hangs_or_breaks_is_a_disagreement(asked, answer, said):
    asked.answer = answer
    assert said in asked.question()
    assert said in asked.question()
    assert len(asked.commands) == (1 if answer == WRONG else 2)  # what may have had another reason is asked anew


def test_a_kept_disagreement_says_where(asked, tmp_path):
    asked.answer = WRONG
    asked.question()
    assert f"a product is off (kept in {tmp_path}/deeplab_fast/gemm-check/" in asked.question()


def test_a_user_without_a_home_asks_each_time(asked, monkeypatch):
    monkeypatch.setattr(gemm_check, "default_cache", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert asked.question() is None
    assert asked.question() is None
    assert len(asked.commands) == 2


def test_autocast_does_not_round_the_reference(stand_in, monkeypatch):
    """The small problems, whose results a rounding would change as it would the large one's."""
    monkeypatch.setattr(gemm_check, "_PRODUCTS", gemm_check._PRODUCTS[:2])
    with torch.autocast("cpu", torch.bfloat16):
        assert gemm_check.compared(CPU, "1x1") is None


@pytest.mark.parametrize("answer", [subprocess.CompletedProcess([], 3, "", ""), OSError("no processes")])
def test_a_gpu_that_takes_no_second_process_is_asked_here(asked, monkeypatch, answer):
    asked.answer = answer
    monkeypatch.setattr(gemm_check, "compared", lambda device, kind: f"{kind} on {device}")
    assert asked.question() == "1x1 on cuda:0"


def test_a_cache_that_cannot_be_written_is_no_trouble(asked, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert asked.question() is None
    assert asked.question() is None
    assert len(asked.commands) == 2


def test_the_process_that_is_asked(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gemm_check", "1x1", "0"])
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: (_ for _ in ()).throw(RuntimeError("no GPU")))
    assert gemm_check.main() == 3
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: None)
    monkeypatch.setattr(gemm_check, "compared", lambda device, kind: f"{kind} is off")
    assert gemm_check.main() == 0
    assert capsys.readouterr().out == "1x1 is off"


def test_a_cpu_has_nothing_to_ask():
    assert gemm_check.disagreement(CPU, "1x1") is None
