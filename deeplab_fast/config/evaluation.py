"""The flags of an evaluation."""

from dataclasses import dataclass

from .flags import flag
from .shared import (
    AutoOrPrecision,
    CheckpointConfig,
    ImageConfig,
    MachineConfig,
    ModelConfig,
    OnBadSample,
    ProtocolConfig,
    RecordCacheConfig,
    Verify,
)


@dataclass(frozen=True, kw_only=True)
class EvalConfig(RecordCacheConfig, ProtocolConfig, MachineConfig, ImageConfig, ModelConfig, CheckpointConfig):
    """Everything that decides an evaluation."""

    precision: AutoOrPrecision = flag(
        "fp32",
        "Arithmetic of the network. fp32, for figures that compare from machine to machine; auto: bf16 where the device"
        " multiplies it natively (GPUs from compute capability 8.0 on, CPUs with AMX or AVX512_BF16), else fp32.",
    )
    data_root: str = flag("", "Folder that the paths in --data_lst start from.")
    data_lst: str = flag("", "List file: an image path and a label path on each line.")
    data_file: str = flag("", "Records to evaluate on, instead of a list: files or a URL.")
    verify: Verify = flag(
        "auto",
        "Compare each sample of records with its checksum when it is read: auto (where the records have checksums),"
        " always (others are refused) or never.",
    )
    on_bad_sample: OnBadSample = flag(
        "error",
        "A sample that cannot be used stops the evaluation, or is skipped: the figures say over how many images.",
    )
    process_timeout: int = flag(
        300, "Seconds that processes wait for each other; then all end, and who is missing is named.", minimum=1
    )
    batch_size: int = flag(32, "Images a batch.", minimum=1)
    report: str = flag(
        "",
        "Folder for the metrics file, metrics-CHECKPOINT-DATA.json (default the checkpoint's), and for report.html, a"
        " page with the figures and the worst and best images.",
    )
    compile: bool = flag(False, "Compile the network with torch.compile.")
