"""Files of a run that are damaged, or another's: each is named, and what came before takes its place."""

import pytest
import torch

from deeplab_fast.errors import UserError
from tests.trials.run_files import MODEL, lines, without_seal

pytestmark = pytest.mark.usefixtures("tiny", "without_pictures")


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.fault("a file that is torn, flipped or another")
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a2_a_flipped_bit_is_named_and_the_checkpoint_before_continues(share, start, folder):
    start("--max_steps=6", "--save_steps=2")
    newest = folder / f"{MODEL}-3_2.pt"
    weights = torch.load(newest, weights_only=True)["model"]
    flip(newest, int(share * newest.stat().st_size))
    said = start("--max_steps=6", "--save_steps=2", "--resume=True")
    assert f"{newest}: damaged (its bytes do not match its digest); the one before takes its place" in said
    assert "2 steps are done again" in said
    assert f"continuing from {folder}/{MODEL}-2_2.pt, step 4 of 6" in said
    again = torch.load(newest, weights_only=True)["model"]
    assert all(torch.equal(again[key], value) for key, value in weights.items())


@pytest.mark.fault("a file that is torn, flipped or another")
def test_a2_a_flipped_bit_in_what_the_seal_says_is_named(start, folder):
    """Not taken for a copy that was given another number."""
    start("--max_steps=6", "--save_steps=2")
    newest = folder / f"{MODEL}-3_2.pt"
    flip(newest, newest.read_bytes().rindex(b'"epoch": 3') + len(b'"epoch": '))
    said = start("--max_steps=6", "--save_steps=2")
    assert f"{newest}: damaged (its bytes do not match its digest)" in said


@pytest.mark.fault("a file that is torn, flipped or another")
def test_a2_every_program_checks_the_digest(start, folder, samples, tmp_path):
    from deeplab_fast import eval as evaluate_program
    from deeplab_fast import export, predict

    start("--max_steps=2")
    flip(folder / "best.pt", (folder / "best.pt").stat().st_size // 2)
    given = f"--ckpt_path={folder / 'best.pt'}"
    for program, flags in (
        (evaluate_program, [f"--data_root={samples}", f"--data_lst={samples}/val.txt"]),
        (predict, [f"--input={samples}/images", f"--output={tmp_path}/out"]),
        (export, [f"--output={tmp_path}/model.onnx"]),
    ):
        with pytest.raises(UserError, match=r"best\.pt: damaged \(its bytes do not match its digest\)"):
            program.main([given, *flags])
    with pytest.raises(UserError, match=r"best\.pt: damaged"):
        start("--max_steps=2", f"--train_dir={tmp_path}/other", f"--ckpt_pre_trained={folder / 'best.pt'}")


@pytest.mark.fault("a file that is torn, flipped or another")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("optimiser"), "has no 'optimiser'"),
        (lambda c: c.update(step="four"), "'step' is of type str"),
        (lambda c: c.update(config=None), "'config' is of type NoneType"),
        (lambda c: c["model"].pop("backbone.conv1.weight"), "does not fit this run"),
        (lambda c: c["model"].update({"backbone.conv1.weight": torch.zeros(2)}), "does not fit this run"),
        (lambda c: c["rng"].update(cpu=torch.zeros(3)), "does not fit this run"),
        (lambda c: c["optimiser"].update(param_groups=[]), "does not fit this run"),
    ],
)
def test_a5_a_checkpoint_that_is_not_whole_is_one_line(change, words, start, folder):
    start("--max_steps=2")
    without_seal(folder / f"{MODEL}-1_2.pt", change)
    with pytest.raises(UserError, match=words) as caught:
        start("--max_steps=4")
    assert "\n" not in str(caught.value)


def test_a5_a_stored_configuration_of_wrong_types_is_one_line(start, folder, samples):
    from deeplab_fast import eval as evaluate_program

    start("--max_steps=2")
    content = torch.load(folder / "best.pt", weights_only=True)
    content["format"] = "deeplab_fast.weights/1"
    content["config"] |= {"crop_size": "large"}
    torch.save(content, folder / "best.pt")
    flags = [f"--data_root={samples}", f"--data_lst={samples}/val.txt"]
    with pytest.raises(UserError, match="--crop_size='large': expected a whole number"):
        evaluate_program.main([f"--ckpt_path={folder / 'best.pt'}", *flags])


def test_a6_a_best_checkpoint_that_was_removed_is_written_again(start, folder):
    start("--max_steps=2")
    (folder / "best.pt").unlink()
    without_seal(folder / f"{MODEL}-1_2.pt", lambda content: content.update(best_miou=2.0))  # none will be better
    said = start("--max_steps=4")
    assert "best.pt is gone: it now holds the weights of this evaluation" in said
    assert torch.load(folder / "best.pt", weights_only=True)["step"] == 4


def test_a6_a_damaged_best_checkpoint_is_set_aside_before_the_run_goes_on(start, folder):
    start("--max_steps=2")
    (folder / "best.pt").write_bytes(b"no weights")
    said = start("--max_steps=4")
    assert f"{folder / 'best.pt'}: not a checkpoint that can be read" in said
    assert said.index("it is now best.pt.damaged") < said.index("continuing from")
    assert (folder / "best.pt.damaged").read_bytes() == b"no weights"
    assert torch.load(folder / "best.pt", weights_only=True)["step"] == 4


@pytest.mark.fault("a file that is torn, flipped or another")
@pytest.mark.parametrize("damage", [lambda text: text[:-7], lambda text: b"\0" * 40 + text[40:]], ids=["cut", "zeros"])
def test_a7_torn_lines_are_told_apart_and_the_run_ends_well(damage, start, folder, pictures):
    start("--max_steps=2", "--eval_epochs=0")
    log = folder / "metrics.jsonl"
    whole = log.read_bytes()
    log.write_bytes(damage(whole))
    said = start("--max_steps=4", "--eval_epochs=0")
    assert f"{log}: 1 torn line moved to metrics.jsonl.damaged" in said
    torn = (folder / "metrics.jsonl.damaged").read_bytes().rstrip(b"\n")
    assert torn in damage(whole)
    assert len([r["step"] for r in lines(folder)]) == 3
    assert (folder / "report" / "report.html").exists()
    start("--max_steps=4", "--eval_epochs=0")
