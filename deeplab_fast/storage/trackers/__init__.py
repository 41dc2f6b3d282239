"""Places that a run's figures go to besides its own files: TensorBoard, Weights & Biases, MLflow, by the same calls."""

from .tracker import TRACKERS, TrackedRun, Tracker, check_trackers
from .trackers import Trackers

__all__ = ["TRACKERS", "TrackedRun", "Tracker", "Trackers", "check_trackers"]
