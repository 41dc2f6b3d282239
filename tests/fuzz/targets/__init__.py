"""The fuzz targets of Python, by name; atheris is not needed to import them."""

from . import annotations, checkpoints, flag_files, images, mindrecord, model_folders, records, splits

TARGETS = {
    target.name: target
    for target in (
        records.TARGET,
        mindrecord.TARGET,
        checkpoints.TARGET,
        *annotations.TARGETS,
        splits.TARGET,
        images.TARGET,
        flag_files.TARGET,
        model_folders.TARGET,
    )
}
