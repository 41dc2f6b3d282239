"""Tensors of a file that go into a network, and the table of what matched."""

from collections.abc import Collection

from torch import Tensor

# Parts of the network as the table shows them, by the beginnings of their names.
_PARTS = (
    ("backbone stem", ("backbone.conv1.", "backbone.bn1.")),
    *((f"backbone layer{i}", (f"backbone.layer{i}.",)) for i in range(1, 5)),
    ("ASPP", ("classifier.0.",)),
    ("convolution after ASPP", ("classifier.1.", "classifier.2.")),
    ("classifier", ("classifier.4.",)),
)


class Match:
    """Tensors of a file under names of a network, from which some are taken out again.

    ``own``: the network's; ``found``: the file's under names of these; ``given``: every name in the file. BatchNorm's
    count of batches goes along and is not counted: old files have none.
    """

    def __init__(self, own: dict[str, Tensor], found: dict[str, Tensor], given: Collection[str]) -> None:
        self.own, self.given = own, given
        self.chosen = dict(found)
        self._reasons: dict[str, list[str]] = {}

    def of_other_shape(self) -> list[str]:
        return [key for key, tensor in self.chosen.items() if tensor.shape != self.own[key].shape]

    def leave(self, part: str, reason: str) -> None:
        """Take a tensor, or all tensors of a part, out of what is loaded."""
        for key in [k for k in self.chosen if _is_of(k, part)]:
            del self.chosen[key]
            self._reasons.setdefault(reason, []).append(key)

    def count(self, part: str) -> tuple[int, int]:
        """Return how many tensors of a part are loaded, and how many it has."""
        keys = [key for key in self.own if _is_of(key, part) and _counts(key)]
        return sum(key in self.chosen for key in keys), len(keys)

    def table(self, unused: tuple[str, ...]) -> str:
        """Return a line for each part of the network, then what the file holds beside it; ``unused``: known heads."""
        lines = []
        for name, beginnings in _PARTS:
            keys = [key for key in self.own if key.startswith(beginnings) and _counts(key)]
            if keys:
                loaded = sum(key in self.chosen for key in keys)
                rest = "" if loaded == len(keys) else "; the others start anew" if loaded else "; starts anew"
                lines.append(f"  {name:<23}{loaded} of {len(keys)}{rest}{self._why(beginnings)}")
        for words, keys in _left_over(self.own, self.given, unused):
            lines.append(f"  {words:<23}{group_names(keys)}")
        return "\n".join(lines)

    def _why(self, beginnings: tuple[str, ...]) -> str:
        reasons = [r for r, keys in self._reasons.items() if any(k.startswith(beginnings) for k in keys)]
        return f" ({', '.join(reasons)})" if reasons else ""


def _is_of(key: str, part: str) -> bool:
    return key == part or key.startswith(part + ".")


def _counts(key: str) -> bool:
    return not key.endswith("num_batches_tracked")


def _left_over(own: Collection[str], given: Collection[str], unused: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    extra = [key for key in given if key not in own]
    heads = [key for key in extra if key.startswith(unused)]
    others = [key for key in extra if not key.startswith(unused)]
    return [(words, keys) for words, keys in (("heads not needed", heads), ("not used", others)) if keys]


def group_names(keys: Collection[str]) -> str:
    """Return modules, up to their name's second dot, and how many tensors each stands for; the first four."""
    counts: dict[str, int] = {}
    for key in keys:
        name = ".".join(key.split(".")[:-1][:2]) or key
        counts[name] = counts.get(name, 0) + 1
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:4]]
    return ", ".join(shown) + (", ..." if len(counts) > 4 else "")
