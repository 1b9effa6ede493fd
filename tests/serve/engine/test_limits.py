"""Limits that cannot work, and CPUs shared by processes."""

from __future__ import annotations

import pytest

from serve.engine.limits import Limits
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError
from toolkit.measurement.environment import cpu_quota


def test_limits_that_cannot_work_are_all_named() -> None:
    limits = Limits(max_concurrent_requests=8, max_client_batch_size=9, max_batch_tokens=127, workers=0)
    with pytest.raises(ToolkitError) as error:
        limits.check(max_length=128)
    for name in ("workers 0", "max_batch_tokens 127", "max_client_batch_size 9"):
        assert name in str(error.value)
    Limits(max_batch_tokens=128).check(max_length=128)


def test_the_cpus_are_shared_out() -> None:
    cpus = cpu_quota()
    assert Limits.of(ServeConfig("x", processes=1)).workers == cpus
    assert Limits.of(ServeConfig("x", processes=cpus)).workers == 1
    assert Limits.of(ServeConfig("x", processes=4 * cpus)).workers == 1
    assert Limits.of(ServeConfig("x", processes=2, workers=3)).workers == 3
