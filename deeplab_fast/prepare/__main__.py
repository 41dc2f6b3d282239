"""Command line of :mod:`deeplab_fast.prepare`."""

from deeplab_fast.cli import run

from . import main

if __name__ == "__main__":
    run(main)
