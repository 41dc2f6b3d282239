"""The data that a run trains on and is measured by."""

from dataclasses import dataclass

from ..config import TrainConfig
from ..data.classes import check_same_classes, class_names, own_names
from ..data.open_records import open_records
from ..data.remote import RecordCache, find_records
from ..data.sources import Source, keys_digest, list_source
from ..data.synthetic import CLASSES, builtin_data
from ..errors import UserError


@dataclass
class Sources:
    """The training samples, those held out (if any) and the names of the classes."""

    train: Source
    held_out: Source | None
    names: list[str]

    @classmethod
    def open(cls, config: TrainConfig) -> "Sources":
        """Open the data that the configuration names: the built-in set, record shards or a list.

        Raises:
            UserError: it cannot be read, or its classes are not those of the configuration.
        """
        if config.is_builtin:
            if config.num_classes != len(CLASSES):
                raise UserError(f"--num_classes={config.num_classes}: the built-in data set has {len(CLASSES)} classes")
            folder = builtin_data(config.cache_dir)
            return cls(
                list_source(folder, folder / "train.txt"), list_source(folder, folder / "val.txt"), list(CLASSES)
            )
        cache = RecordCache.of(config)
        data_file = find_records(config.data_file, cache)
        if data_file:
            train: Source = open_records(data_file, verify=config.verify)
        else:
            train = list_source(config.data_root, config.data_lst)
        names = class_names(config.num_classes, data_file, config.data_lst, config.data_root)
        held_out: Source | None = None
        held_out_root = config.val_data_root or config.data_root
        val_data_file = find_records(config.val_data_file, cache, "val_data_file")
        if val_data_file:
            held_out = open_records(val_data_file, "val_data_file", config.verify)
        elif config.val_data_lst:
            held_out = list_source(held_out_root, config.val_data_lst)
        if held_out is not None:
            check_same_classes(names, val_data_file, config.val_data_lst, held_out_root)
        return cls(train, held_out, names)

    @property
    def own_names(self) -> tuple[str, ...]:
        """Names of the classes that the data gives; none where it gives numbers alone."""
        return own_names(self.names)

    def digests(self) -> tuple[str, str]:
        """Return digests of the keys of both sets, empty where nothing is held out: whether two runs' are the same."""
        return keys_digest(self.train), keys_digest(self.held_out) if self.held_out is not None else ""
