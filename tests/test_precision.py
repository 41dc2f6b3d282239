"""Which precision ``--precision=auto`` is, by device and by processes."""

import builtins
import io
import logging

import pytest
import torch

from deeplab_fast.errors import UserError
from deeplab_fast.runtime import (
    Precision,
    common_precision,
    cpu_bf16_instructions,
    keep_precision,
    precision,
    resolve_precision,
)
from deeplab_fast.runtime import __main__ as report_of_machine

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
NOT_ON_THIS_CPU = "this CPU does not multiply bf16 natively: no AMX, no AVX512_BF16"


@pytest.fixture
def cpu(monkeypatch):
    """Let the CPU have these instructions for bf16."""
    return lambda name: monkeypatch.setattr(precision, "cpu_bf16_instructions", lambda: name)


@pytest.mark.parametrize(
    ("capability", "name", "reason"),
    [
        ((7, 0), "fp32", "this GPU does not multiply bf16 natively: sm_70, older than sm_80"),
        ((7, 5), "fp32", "this GPU does not multiply bf16 natively: sm_75, older than sm_80"),
        ((8, 0), "bf16", "tensor cores"),
        ((8, 9), "bf16", "tensor cores"),
        ((9, 0), "bf16", "tensor cores"),
        ((12, 0), "bf16", "tensor cores"),
    ],
)
def test_auto_on_a_gpu(capability, name, reason, cpu, monkeypatch):
    cpu("AMX" if name == "fp32" else "")  # what the CPU can does not matter
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", GPU) == (name, reason)


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [("AMX", "bf16 (AMX)"), ("AVX512_BF16", "bf16 (AVX512_BF16)"), ("", f"fp32 ({NOT_ON_THIS_CPU})")],
)
def test_auto_on_a_cpu(instructions, expected, cpu):
    cpu(instructions)
    assert str(resolve_precision("auto", CPU)) == expected


@pytest.mark.parametrize("asked", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("instructions", ["AMX", ""])
def test_what_is_asked_for_is_taken(asked, instructions, cpu):
    cpu(instructions)
    slow = asked == "bf16" and not instructions
    assert str(resolve_precision(asked, CPU)) == f"{asked} (as asked{f', although {NOT_ON_THIS_CPU}' if slow else ''})"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n", "AMX"),
        ("flags\t\t: fpu avx512f avx512_bf16\n", "AVX512_BF16"),
        ("flags\t\t: fpu avx512f amx_tile\n", ""),
        ("Features\t: fp asimd bf16\n", ""),
        (None, ""),
    ],
)
def test_what_the_cpu_says_of_itself(cpuinfo, expected, monkeypatch):
    def opened(path, *args, **options):
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return io.StringIO(cpuinfo)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", opened)
        found = cpu_bf16_instructions()
    assert found == expected


AMX, AVX512, NONE = Precision("bf16", "AMX"), Precision("bf16", "AVX512_BF16"), Precision("fp32", NOT_ON_THIS_CPU)


@pytest.mark.parametrize(
    ("by_rank", "expected"),
    [
        ([AMX], "bf16 (AMX)"),
        ([AMX, AVX512], "bf16 (AMX)"),
        ([NONE, NONE], f"fp32 ({NOT_ON_THIS_CPU})"),
        ([AMX, NONE], f"fp32 (rank 1: {NOT_ON_THIS_CPU})"),
        ([NONE, AMX, AMX], f"fp32 (rank 0: {NOT_ON_THIS_CPU})"),
        ([Precision("fp16", "as asked")] * 2, "fp16 (as asked)"),
    ],
)
def test_processes_take_the_same(by_rank, expected):
    assert str(common_precision(by_rank)) == expected


@pytest.mark.parametrize(("began", "here"), [("bf16", NONE), ("fp32", AMX), ("bf16", Precision("fp32", "rank 1: x"))])
def test_what_began_goes_on_and_it_is_said(began, here, caplog):
    caplog.set_level(logging.INFO, "deeplab_fast")
    assert keep_precision(began, here, CPU, "--train_dir=x") == (began, "as it began")
    assert caplog.messages == [f"--train_dir=x: goes on in {began}, as it began; auto would begin in {here} here"]


def test_nothing_is_said_where_auto_is_what_began(caplog):
    caplog.set_level(logging.INFO, "deeplab_fast")
    assert keep_precision("bf16", AMX, CPU, "--train_dir=x") == AMX
    assert not caplog.messages


def test_fp16_does_not_go_on_without_a_gpu():
    with pytest.raises(UserError, match="--train_dir=x: began in fp16, which needs a GPU; continue on one, or choose"):
        keep_precision("fp16", NONE, CPU, "--train_dir=x")
    assert keep_precision("fp16", Precision("bf16", "tensor cores"), GPU, "--train_dir=x") == ("fp16", "as it began")


def test_the_machine_s_report_says_what_auto_is(cpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpu("AMX")
    assert report_of_machine.main([]) == 0
    assert "\nprecision  auto is bf16 (AMX)\n" in capsys.readouterr().out
