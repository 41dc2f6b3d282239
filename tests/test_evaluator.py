"""The evaluation protocol against an independent version in OpenCV and NumPy."""

import cv2
import numpy as np
import pytest
import torch

from deeplab_fast.config import EvalConfig, ModelConfig
from deeplab_fast.data.pairs import decode_pair
from deeplab_fast.data.sources import list_source
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.evaluator import evaluate
from deeplab_fast.evaluation.protocol import Protocol, View, aligns_corners, longest_side_to, scores, view_of
from deeplab_fast.evaluation.protocols import Recipe
from deeplab_fast.evaluation.settings import Settings
from deeplab_fast.model import build_model, resnet
from deeplab_fast.ops import summed_probabilities

CPU = torch.device("cpu")
MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # RGB
STD = np.array([58.395, 57.12, 57.375], np.float32)


@pytest.fixture(scope="module")
def model(builtin):
    """Random weights, few layers, scaled so that every class is predicted somewhere and flips and scales matter."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        shallow = resnet.Architecture(resnet.BasicBlock, (1, 1, 1, 1))
        patch.setitem(resnet.ARCHITECTURES, "resnet18", shallow)
        model = build_model(ModelConfig(backbone="resnet18", num_classes=6))
    source = list_source(builtin, builtin / "val.txt")
    x = [recipe_input(decode_pair(source.read(i))[0], 97)[0] for i in range(len(source))]
    model.train()
    with torch.no_grad():
        for _ in range(30):
            model(torch.cat(x))  # running statistics of these images
        model.eval()
        model.classifier[-1].weight.mul_(10)
        logits = model(torch.cat(x))
        model.classifier[-1].bias.copy_(-logits.mean((0, 2, 3)))
    return model


ROUNDED_OTHERWISE = 0.002  # share of the values that our resize rounds otherwise than exact arithmetic


def recipe_input(image, size, disturb=False):
    """The MindSpore recipe's input: resized, normalised, padded; a batch of one, and its height and width.

    OpenCV resizes in float and rounds here: its 8-bit path truncates its weights, and a network of
    random weights makes much of a difference of 1. ``test_bilinear_resize_equals_opencv`` has that path.
    ``disturb`` moves a share of the values by 1, as rounding might.
    """
    height, width = image.shape[:2]
    if height > width:
        h, w = size, int(1.0 * size * width / height)
    else:
        h, w = int(1.0 * size * height / width), size
    x = np.rint(cv2.resize(image.astype(np.float32), (w, h)))
    if disturb:
        generator = np.random.default_rng(size)
        x += (generator.random(x.shape) < ROUNDED_OTHERWISE) * generator.choice([-1, 1], x.shape)
    x = ((x - MEAN) / STD).astype(np.float32)
    x = cv2.copyMakeBorder(x, 0, size - h, 0, size - w, cv2.BORDER_CONSTANT, value=0)
    return torch.from_numpy(x).permute(2, 0, 1)[None], h, w


def recipe_probabilities(model, image, size, flip, disturb):
    """One scale of the recipe's evaluation, image by image, in OpenCV and NumPy."""
    height, width = image.shape[:2]
    x, h, w = recipe_input(image, size, disturb)
    total = 0
    for mirrored in (False, True) if flip else (False,):
        with torch.no_grad():
            out = model.predict(x.flip(-1) if mirrored else x)[0].softmax(0).numpy()
        total = total + (out[:, :, ::-1] if mirrored else out)
    return cv2.resize(np.ascontiguousarray(total[:, :h, :w].transpose(1, 2, 0)), (width, height))


def recipe(model, source, crop_size, scales, flip, disturb=False):
    """Summed probabilities of each image and the confusion matrix of the set."""
    counts, summed = np.zeros((6, 6), np.int64), []
    for i in range(len(source)):
        image, label = decode_pair(source.read(i))
        sizes = [int((crop_size - 1) * s) + 1 for s in scales]
        summed.append(sum(recipe_probabilities(model, image, size, flip, disturb) for size in sizes))
        valid = label != 255
        pairs = label[valid].astype(int) * 6 + summed[-1].argmax(2)[valid]
        counts += np.bincount(pairs, minlength=36).reshape(6, 6)
    return summed, counts


def our_probabilities(model, source, protocol):
    for i in range(len(source)):
        image, _ = decode_pair(source.read(i))
        views = [View(*(torch.from_numpy(a)[None] for a in view_of(image, size))) for size in protocol.sizes]
        found = summed_probabilities(scores(model, views, protocol, CPU), [image.shape[:2]], aligns_corners(model))
        yield next(found).permute(1, 2, 0).numpy()


def protocol(crop_size=97, scales=(1.0,), flip=False):
    config = EvalConfig(crop_size=crop_size)
    return Protocol.of(config, "fp32", scales, flip)


def settings(batch_size, workers=0, classes=6):
    return Settings(classes, 255, CPU, batch_size, workers)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    "scales",
    [pytest.param((1.0,), id="single"), pytest.param((0.5, 0.75, 1.0, 1.25, 1.75), id="multi", marks=pytest.mark.long)],
)
def test_equals_the_recipe_s(model, builtin, scales, flip):
    source = list_source(builtin, builtin / "val.txt")
    how = protocol(97, scales, flip)
    summed, theirs = recipe(model, source, 97, scales, flip)
    # How much a value here and there that rounds the other way matters to this network, in the recipe's own arithmetic.
    disturbed, theirs_disturbed = recipe(model, source, 97, scales, flip, disturb=True)
    ours = np.mean([np.abs(p - q).mean() for p, q in zip(our_probabilities(model, source, how), summed, strict=True)])
    assert ours <= 1.5 * np.mean([np.abs(p - q).mean() for p, q in zip(disturbed, summed, strict=True)])
    counts = evaluate(model, source, Recipe(how), settings(3)).confusion
    assert np.array_equal(counts.sum(1), theirs.sum(1))
    assert (counts.sum(0) > 0).all()
    moved = np.abs(counts - theirs).sum()
    assert moved <= 1.5 * np.abs(theirs_disturbed - theirs).sum()
    assert moved <= 0.005 * theirs.sum()


def test_the_protocols_differ_by_more_than_the_tolerance(model, builtin):
    """Or the test above could not tell them apart."""
    source = list_source(builtin, builtin / "val.txt")
    found = [
        evaluate(model, source, Recipe(how), settings(3)).confusion
        for how in (protocol(), protocol(flip=True), protocol(scales=(0.5, 0.75, 1.0, 1.25, 1.75)), protocol(65))
    ]
    for i, a in enumerate(found):
        for b in found[i + 1 :]:
            assert np.abs(a - b).sum() > 0.04 * a.sum()  # eight times that


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 2), (7, 1)])
def test_batches_and_workers_do_not_matter(model, builtin, batch_size, workers):
    source = list_source(builtin, builtin / "val.txt")
    expected = evaluate(model, source, Recipe(protocol()), settings(4)).confusion
    actual = evaluate(model, source, Recipe(protocol()), settings(batch_size, workers)).confusion
    assert actual.sum() == expected.sum()
    assert np.abs(actual - expected).sum() <= 4  # convolutions of another batch size round differently


class Watched(torch.nn.Module):
    """``model`` with the shapes that go through it, in a memory of so many pixels."""

    def __init__(self, model, memory=1 << 40):
        super().__init__()
        self.model, self.memory, self.seen = model, memory, []
        self.train(model.training)  # or it is put into the mode of a new module after evaluation

    def forward(self, x):
        if x.shape[0] * x.shape[2] * x.shape[3] > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.seen.append(tuple(x.shape))
        return self.model(x)


MULTI = (0.5, 1.0, 1.75)


def test_no_pass_has_more_pixels_than_a_batch_of_the_crop_size(model, builtin):
    source = list_source(builtin, builtin / "val.txt")
    watched, limit = Watched(model), 4 * 97**2
    actual = evaluate(watched, source, Recipe(protocol(97, MULTI, flip=True)), settings(4)).confusion
    pixels = {(shape[2], shape[0] * shape[2] * shape[3]) for shape in watched.seen}
    assert {side for side, _ in pixels} == {49, 97, 169}
    assert max(most for _, most in pixels) <= limit
    assert (49, 4 * 49**2) in pixels  # not more than the batch either
    one_by_one = evaluate(model, source, Recipe(protocol(97, MULTI, flip=True)), settings(1)).confusion
    assert np.abs(actual - one_by_one).sum() <= 4  # convolutions of another batch size round differently


def test_evaluation_goes_on_with_fewer_images_where_memory_is_not_enough(model, builtin, caplog):
    source = list_source(builtin, builtin / "val.txt")
    watched = Watched(model, memory=2 * 97**2)
    actual = evaluate(watched, source, Recipe(protocol()), settings(8)).confusion
    expected = evaluate(model, source, Recipe(protocol()), settings(2)).confusion
    assert np.array_equal(actual, expected)  # no image twice, none left out
    said = [record.getMessage() for record in caplog.records if "memory" in record.getMessage()]
    assert said == [f"evaluation: not enough memory; goes on with {n} images at a time" for n in (4, 2)]


def test_an_image_that_does_not_fit_alone_is_a_clear_error(model, builtin):
    source = list_source(builtin, builtin / "val.txt")
    with pytest.raises(UserError, match="not enough for one image of 97 x 97 pixels; expected a smaller --crop_size"):
        evaluate(Watched(model, memory=97), source, Recipe(protocol()), settings(4))


def test_the_training_mode_is_restored(model, builtin):
    source = list_source(builtin, builtin / "val.txt")
    model.train()
    evaluate(model, source, Recipe(protocol(33)), settings(4))
    assert model.training
    model.eval()


def test_a_bad_label_is_named(model, builtin):
    source = list_source(builtin, builtin / "val.txt")
    with pytest.raises(UserError, match=r"labels/\d+\.png: label value"):
        evaluate(model, source, Recipe(protocol(33)), settings(4, classes=3))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((375, 500), (384, 513)), ((500, 375), (513, 384)), ((9, 9), (513, 513)), ((1, 2000), (1, 513))],
)
def test_longest_side(size, expected):
    assert longest_side_to(513, *size) == expected
