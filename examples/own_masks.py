"""Train on images and masks of your own, from Python: what the three commands in README do.

``python examples/own_masks.py mine`` expects ``mine/images``, ``mine/masks`` (a class number a pixel) and
``mine/classes.txt``; ``examples/make_shapes.py`` draws such a folder. Flags behind it are those of training.
"""

from pathlib import Path

import deeplab_fast
from deeplab_fast import prepare
from deeplab_fast.cli import parse_flags, run


def main(argv: list[str]) -> None:
    """Check the data, split it, train, and say where the best weights are; a mistake in the data ends it."""
    root, flags = Path(argv[0]), argv[1:]
    folders = [f"--image_dir={root / 'images'}", f"--label_dir={root / 'masks'}"]
    prepare.main(["check", *folders])
    prepare.main(["lists", f"--data_root={root}", *folders, "--val_share=0.15"])
    chosen = {
        "data_root": str(root),
        "data_lst": str(root / "train_lst.txt"),
        "val_data_lst": str(root / "val_lst.txt"),
        "train_dir": str(root / "run"),
        "num_classes": len((root / "classes.txt").read_text().splitlines()),
        "backbone": "resnet18",
        "crop_size": 97,
        "batch_size": 8,
        "train_epochs": 30,
    }
    config = deeplab_fast.TrainConfig(**chosen | parse_flags(deeplab_fast.TrainConfig, flags, "own_masks", ""))
    outcome = deeplab_fast.fit(config)
    print(f"held-out mIoU {outcome.best_miou:.3f} in epoch {outcome.best_epoch}: {outcome.best}")


if __name__ == "__main__":
    run(main)  # the log on the screen, a mistake in one line
