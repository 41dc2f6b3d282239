"""What the tests of prediction share: a network of few channels and images of several sizes."""

import pytest
from PIL import Image

from tests.faults.tiny import make_tiny
from tests.prediction.networks import NAMES, picture, save_network


@pytest.fixture(scope="module")
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch.setattr)
        yield


@pytest.fixture(scope="module")
def weights(tiny, tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("weights") / "best.pt", names=NAMES)


@pytest.fixture(scope="module")
def unnamed(tiny, tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("unnamed") / "best.pt")


@pytest.fixture
def photos(tmp_path):
    """Three images of different sizes, one in a subfolder, with a space and letters of other scripts in its name."""
    folder = tmp_path / "photos"
    (folder / "süd see").mkdir(parents=True)
    for seed, (name, size) in enumerate({"a.png": (60, 90), "b.png": (70, 40), "süd see/ü 1.png": (33, 65)}.items()):
        Image.fromarray(picture(*size, seed)).save(folder / name)
    return folder
