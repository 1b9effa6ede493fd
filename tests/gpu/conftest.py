"""The device of a test: the CPU where there is no GPU, else the GPU, for which the test is marked gpu."""

from __future__ import annotations

import os

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic products; read at the first one


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that training uses on this machine; the test of the other one is skipped."""
    if (request.param == "cuda") != torch.cuda.is_available():
        pytest.skip("this machine has a GPU, which training uses" if request.param == "cpu" else "there is no GPU")
    return torch.device(request.param)
