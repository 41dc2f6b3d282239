"""Command line of :mod:`deeplab_fast.compare`."""

from deeplab_fast.cli import run

from .command import main

if __name__ == "__main__":
    run(main)
