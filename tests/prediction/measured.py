"""A prediction in a process of its own, which says what memory it took: ``python -m tests.prediction.measured``.

Prints the resident bytes after each image that was written, then the most that the process ever had. With
``--few_channels`` as the first flag the network is that of the tests.
"""

import json
import os
import resource
import sys

from deeplab_fast import predict
from deeplab_fast.storage.mask_folder import MaskFolder
from tests.faults.tiny import make_tiny


def resident():
    """Return the bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(argv):
    if argv[:1] == ["--few_channels"]:
        make_tiny(setattr)
        argv = argv[1:]
    written = []
    write = MaskFolder.write

    def write_and_look(*given):
        write(*given)
        written.append(resident())

    MaskFolder.write = write_and_look
    status = predict.main(argv)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"status": status, "written": written, "peak": peak}))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
