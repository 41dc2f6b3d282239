"""Pages of training runs from what lies in their folders: one run's, and several compared."""

import json

import numpy as np
import pytest

from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.metrics import Scores
from deeplab_fast.evaluation.per_image import ImageCounts
from deeplab_fast.evaluation.record import protocol_record
from deeplab_fast.report import training_page
from deeplab_fast.report.__main__ import main
from deeplab_fast.report.comparison import differing_flags, run_names
from deeplab_fast.report.runs import read_run
from deeplab_fast.report.training_page import keep_scores, write_report
from tests.report.pages import HOSTILE, Reader, subject_of, write_run


@pytest.fixture
def run(tmp_path):
    """A run with an evaluation, its page written as training does."""
    folder = write_run(tmp_path / "run <b>")
    subject = subject_of(tmp_path / "data", HOSTILE)
    keep_scores(folder, Scores(np.diag([5, 6, 7]), 6), HOSTILE, protocol_record(subject.protocol, 255), "fp32", 4)
    write_report(folder, subject, "last weights, step 4")
    return folder


def headings(page):
    return [*Reader(page).texts("h2"), *Reader(page).texts("b")]


def test_a_run_s_page_is_written_again_from_its_folder(run, capsys):
    page = run / "report" / "report.html"
    first = page.read_text()
    page.unlink()
    assert main([str(run)]) == 0
    assert page.read_text() == first
    assert capsys.readouterr().out == f"report {page}\n"
    shown = headings(first)
    for words in (
        "Training loss",
        "Held-out images",
        "Learning rate",
        "Time of a step",
        "Memory",
        "Confusion",
        "Images",
    ):
        assert words in shown
    assert "last weights, step 4" in first
    assert "run &lt;b&gt;" in first


def test_a_run_without_evaluation_or_times_has_the_curves_that_there_are(tmp_path):
    folder = write_run(tmp_path / "run", miou=())
    (folder / "timing.jsonl").unlink()
    write_report(folder, None)
    shown = headings((folder / "report" / "report.html").read_text())
    assert "Training loss" in shown
    assert not {"Held-out images", "Time of a step", "Classes", "Images"} & set(shown)


def test_a_run_before_its_first_step_has_a_page(tmp_path):
    write_report(write_run(tmp_path / "run", losses=(), miou=()), None)
    assert "nothing was evaluated" in (tmp_path / "run" / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", None, "holds no config.json; expected the --train_dir of a run that has begun"),
        ("metrics.jsonl", None, "holds no metrics.jsonl"),
        ("config.json", "{", "config.json: damaged; expected JSON"),
        ("config.json", "[1]", "config.json: holds no JSON object"),
        ("report/evaluation.json", "", "evaluation.json: damaged"),
        ("report/evaluation.json", '{"confusion_matrix": [[1]], "classes": []}', "evaluation.json: damaged"),
        ("report/evaluation.json", '{"pictures": {"worst": [7]}}', "evaluation.json: damaged"),
    ],
)
def test_a_folder_that_is_no_run_or_damaged_is_one_line_and_the_page_stays(run, name, content, said):
    before = (run / "report" / "report.html").read_bytes()
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(UserError) as error:
        main([str(run)])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert (run / "report" / "report.html").read_bytes() == before


def test_lines_that_hold_no_numbers_are_passed_over(tmp_path):
    folder = write_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": "x", "lr": null}\n{"step": 6, "miou": null}\n{"torn\n')
    found = read_run(folder)
    assert [y for _, y in found.values("loss")] == [3.0, 2.0, 1.0, 0.5]
    assert found.best["miou"] == 0.75
    assert found.last["miou"] is None
    assert found.seconds == pytest.approx(0.4)
    write_report(folder, None)


def test_runs_are_compared(tmp_path, capsys):
    a, b = (
        write_run(tmp_path / "a" / "ckpt", base_lr=0.5),
        write_run(tmp_path / "b" / "ckpt", miou=(0.5, 0.1), only_b=1),
    )
    out = tmp_path / "pages ü" / "c.html"
    assert main([str(a), str(b), f"--output={out}"]) == 0
    assert capsys.readouterr().out == f"comparison {out}\n"
    reader = Reader(out.read_text())
    assert reader.texts("code") == ["base_lr", "only_b"]
    cells = reader.texts("td") + reader.texts("b")
    assert {"75.0%", "50.0%", "10.0%", "25.0%", "0.4 s"} <= set(cells)
    assert {"a/ckpt", "b/ckpt"} <= set(reader.texts("th"))
    polylines = [v for tag, name, v in reader.attributes if (tag, name) == ("polyline", "data-label")]
    assert polylines == ["a/ckpt", "b/ckpt"] * 4
    assert main([str(a), str(b), f"--output={out}"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "RUN: missing; expected one or more folders"),
        (["none"], "none: no such folder"),
        (["a/metrics.jsonl"], "a/metrics.jsonl: is a file"),
        (["a", "b", "./a"], "a: given twice"),
        (["a", "--output=x.html"], "--output=x.html: expected with several runs"),
        (["a", "b", "--output=mine.html"], "--output=mine.html: is there already and no comparison of runs"),
        (["a", "b", "--output=a"], "--output=a: is a folder"),
        (["a", "b", "--outptu=x"], "--output"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(UserError) as error:
        main(words)
    assert said in str(error.value)
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_names_tell_folders_apart(tmp_path):
    assert run_names([tmp_path / "x" / "ckpt", tmp_path / "y" / "ckpt"]) == ["x/ckpt", "y/ckpt"]
    assert run_names([tmp_path / "one", tmp_path / "two"]) == ["one", "two"]


def test_only_flags_that_differ_and_decide_are_shown():
    one = {"lr": 1, "crop": 5, "train_dir": "a", "scales": [1]}
    assert differing_flags([one, one | {"lr": 2, "train_dir": "b", "more": 0}]) == {"lr": [1, 2], "more": [None, 0]}
    assert differing_flags([one, json.loads(json.dumps(one))]) == {}


def test_the_images_that_the_evaluation_scored_are_not_scored_again(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    subject = subject_of(tmp_path / "data", HOSTILE)
    counts = ImageCounts.of(range(6), np.array([np.diag([i, 1, 1]) + np.eye(3, k=1, dtype=int) for i in range(6)]))
    scores = Scores(np.diag([5, 6, 7]), 6, per_image=counts)
    keep_scores(folder, scores, list(HOSTILE), protocol_record(subject.protocol, 255), "fp32", 4)
    monkeypatch.setattr(training_page, "score_images", None)
    write_report(folder, subject)
    pictures = read_run(folder).kept["pictures"]
    assert (pictures["scored"], pictures["total"]) == (6, 6)
    assert pictures["worst"][0]["key"] == subject.source.key(0)
    assert pictures["best"][0]["key"] == subject.source.key(5)
