"""Pages in a browser: they load without an error or a request, sort, and are legible in light and dark."""

import os
import shutil

import numpy as np
import pytest

from deeplab_fast.evaluation.metrics import Scores
from deeplab_fast.evaluation.record import protocol_record
from deeplab_fast.report.__main__ import main
from deeplab_fast.report.training_page import keep_scores, write_report
from tests.report.pages import HOSTILE, evaluation_page, subject_of, write_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (CONTRIBUTING.md)")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        system = next((path for name in _NAMES if (path := shutil.which(name))), None)
        path = system or started.chromium.executable_path
        if not os.path.exists(path):
            pytest.skip("no Chromium (CONTRIBUTING.md)")
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The three kinds of pages."""
    root = tmp_path_factory.mktemp("pages")
    run, other = write_run(root / "run"), write_run(root / "other", miou=(0.1, 0.2))
    subject = subject_of(root / "data", HOSTILE)
    keep_scores(run, Scores(np.diag([5, 6, 7]), 6), HOSTILE, protocol_record(subject.protocol, 255), "fp32", 4)
    write_report(run, subject, "last weights, step 4")
    assert main([str(run), str(other), f"--output={root / 'comparison.html'}"]) == 0
    return {
        "evaluation": evaluation_page(root / "evaluation"),
        "training": run / "report" / "report.html",
        "comparison": root / "comparison.html",
    }


@pytest.fixture
def opened(browser, pages):
    """Open a page; what it says on the console and asks for is an error at the end."""
    said, contexts = [], []

    def show(kind, scheme="light"):
        contexts.append(browser.new_context(color_scheme=scheme, viewport={"width": 1300, "height": 900}))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
        own = pages[kind].as_uri()
        page.on("request", lambda r: None if r.url == own or r.url.startswith("data:") else said.append(r.url))
        page.goto(own)
        return page

    yield show
    for context in contexts:
        context.close()
    assert said == []


def column(page, number):
    return page.eval_on_selector_all(
        f"#classes tbody tr > :nth-child({number})", "cells => cells.map(c => c.dataset.value)"
    )


@pytest.mark.parametrize("kind", ["evaluation", "training", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_loads_and_its_text_stands_out(opened, kind, scheme):
    page = opened(kind, scheme)
    broken = "Array.from(document.images).filter(i => !i.complete || i.naturalWidth === 0).length"
    assert page.evaluate(broken) == 0
    light = page.evaluate(
        """() => ['body', '.note'].map(s => getComputedStyle(document.querySelector(s)).color)
            .concat(getComputedStyle(document.body).backgroundColor)
            .map(c => c.match(/[0-9.]+/g).slice(0, 3).map(Number).map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .map(([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b)"""
    )
    *texts, ground = light
    assert (ground > 0.5) == (scheme == "light")
    assert min((max(t, ground) + 0.05) / (min(t, ground) + 0.05) for t in texts) > 4.5  # WCAG's AA
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_click_on_a_heading_sorts_and_says_so(opened):
    page = opened("evaluation")
    head = page.locator("#classes th", has_text="IoU")
    head.locator("button").click()
    values = [float(v) for v in column(page, 2)]
    assert values == sorted(values, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").press("Enter")
    assert [float(v) for v in column(page, 2)] == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("#classes thead button", has_text="Class").click()
    assert head.get_attribute("aria-sort") is None
    assert sorted(column(page, 1)) == sorted(HOSTILE)


def test_a_class_that_is_absent_stays_last(opened):
    page = opened("comparison")
    button = page.locator("#classes thead button", has_text="run")
    button.click()
    assert column(page, 2)[-1] == ""
    button.click()
    assert column(page, 2)[-1] == ""


def test_a_curve_is_read_where_it_is_pointed_at(opened):
    page = opened("training")
    chart = page.locator("figure.chart", has_text="Training loss")
    chart.locator("svg").scroll_into_view_if_needed()
    box = chart.locator("svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 40)
    assert chart.locator(".readout").text_content() == "step 4: each step 0.5"


def test_a_narrow_page_does_not_scroll_sideways(opened):
    page = opened("evaluation")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
