"""Options of evaluate."""

from __future__ import annotations

import pytest

from toolkit.config import EvaluateConfig
from toolkit.errors import ToolkitError


def test_problems_are_listed_together() -> None:
    with pytest.raises(ToolkitError) as caught:
        EvaluateConfig("b", task="nothing", dev_share=1.0, text_column="a", threads=-1).check()
    assert caught.value.problem.startswith("these options cannot be used: 4 problems")
    for part in ("--threads -1", "--dev-share 1.0", "--text-column, --dev-share without --data", "--task nothing"):
        assert part in caught.value.problem
    EvaluateConfig("b", data="a.csv", dev_share=0.5, text_column="a").check()
