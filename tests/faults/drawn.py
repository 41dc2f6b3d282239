"""Cases that hypothesis draws, the same ones every time."""

import pytest
from hypothesis import HealthCheck, settings

FAULT = pytest.mark.fault("configurations drawn at random")


def settings_of(cases, quick, every):
    """Draw ``quick`` examples, or ``every`` one where all cases are asked for."""
    return settings(
        max_examples=every if cases.take_all else quick,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
