"""A network of few channels, for tests of everything but the network: its steps are quick, its checkpoints small.

``python -m tests.faults.tiny FLAGS`` is the training program with it.
"""

from deeplab_fast import train
from deeplab_fast.cli import run
from deeplab_fast.model import aspp, deeplabv3, resnet

# Of fewer than a vector's, a strided 1x1 convolution's gradient writes past oneDNN's workspace (oneDNN's issue 6035).
LEAST = 16


def make_tiny(put=setattr, name="resnet18", block=resnet.BasicBlock):
    """Let every ``name`` from now on be tiny; ``put(object, name, value)`` does it, and may undo it later."""
    whole = resnet.ResNet._stage

    def few_channels(self, block, planes, stage):
        return whole(self, block, LEAST - 4 + planes // 16, stage)

    put(resnet.ResNet, "_stage", few_channels)
    small = resnet.Architecture(block, (1, 1, 1, 1))
    put(resnet, "ARCHITECTURES", {**resnet.ARCHITECTURES, name: small})
    put(deeplabv3, "ARCHITECTURES", resnet.ARCHITECTURES)
    for module in (aspp, deeplabv3):
        put(module, "CHANNELS", 8)


if __name__ == "__main__":
    make_tiny()
    run(train.main)
