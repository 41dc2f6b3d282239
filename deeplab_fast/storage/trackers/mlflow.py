"""MLflow, where ``MLFLOW_TRACKING_URI`` says, else in the run's folder."""

import os
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .tracker import TrackedRun

_TAG = "deeplab_fast.run"
_LONGEST = 500  # characters of a parameter's value that every server takes
_AT_ONCE, _PATIENCE_S = 200, 10.0  # values of a request, or seconds after the last one


class MLflow:
    """A run there, which a resumed one goes on."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        where = os.environ.get("MLFLOW_TRACKING_URI")
        if where is None:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # plain files are what a folder can hold
            where = (run.folder / "mlruns").resolve().as_uri()
        self._metric, self._client = Metric, MlflowClient(where)
        self._run_id = self._find(run) or self._begin(run)
        self._waiting: list[Metric] = []
        self._sent_at = time.monotonic()

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "deeplab_fast")
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))

    def _find(self, run: TrackedRun) -> str | None:
        """Return the identifier of the run that this one goes on, None where it begins; it then runs again."""
        if not run.identity:
            return None
        found = self._client.search_runs([self._experiment()], f"tags.`{_TAG}` = '{run.identity}'", max_results=1)
        if not found:
            return None
        self._client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)

    def _begin(self, run: TrackedRun) -> str:
        from mlflow.entities import Param

        begun = self._client.create_run(
            self._experiment(), tags={_TAG: run.identity}, run_name=run.folder.resolve().name
        ).info.run_id
        params = [Param(name, str(value)[:_LONGEST]) for name, value in run.flags.items()]
        for first in range(0, len(params), 100):  # as many as a request may hold
            self._client.log_batch(begun, params=params[first : first + 100])
        return str(begun)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Note the values that belong to a step."""
        now = int(time.time() * 1000)
        self._waiting += [self._metric(name, value, now, step) for name, value in values.items()]
        if len(self._waiting) >= _AT_ONCE or time.monotonic() - self._sent_at > _PATIENCE_S:
            self._send()

    def _send(self) -> None:
        waiting, self._waiting, self._sent_at = self._waiting, [], time.monotonic()
        if waiting:
            self._client.log_batch(self._run_id, metrics=waiting)

    def image(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Note a picture, RGB ``[H, W, 3]``, that belongs to a step."""
        self._client.log_image(self._run_id, image, key=name.replace("/", "-"), step=step)

    def close(self) -> None:
        """Write what is waiting, and end."""
        self._send()
        self._client.set_terminated(self._run_id)

    def abandon(self) -> None:
        """Leave the run there as it is."""
