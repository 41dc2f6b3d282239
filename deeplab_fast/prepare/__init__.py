"""Get data and weights ready: ``python -m deeplab_fast.prepare download|labels|lists|records|check|convert``."""

from deeplab_fast.errors import UserError, enough_memory

from . import check, convert, download, labels, lists, records

USAGE = """usage: python -m deeplab_fast.prepare download|labels|lists|records|check|convert [--flag=value ...]

  download voc2012, sbd or weights NAME: published files, checked and unpacked
  labels   what labelling tools leave (masks, COCO, labelme, CVAT) to index PNG, one class number a pixel
  lists    VOC 2012 (+ SBD): labels to grey PNG, and the list files voc_train, voc_val, vocaug_train;
           or two folders of your own: train and val lists
  records  a list file or two folders to tar shards, their index and dataset.json
  check    read every file as training will, and name what would break it
  convert  weights of this program or of another to another's format; a MindSpore run to one that goes on here

Each takes --help."""

COMMANDS = {
    "download": download.main,
    "labels": labels.main,
    "lists": lists.main,
    "records": records.main,
    "check": check.main,
    "convert": convert.main,
}


def main(argv: list[str]) -> int:
    """Run the command that the first argument names; return the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if argv[0] not in COMMANDS:
        raise UserError(f"prepare {argv[0]}: unknown; expected one of {', '.join(COMMANDS)}")
    with enough_memory(f"prepare {argv[0]}", "a smaller --num_workers, or a machine with more memory"):
        return COMMANDS[argv[0]](argv[1:])
