"""A classifier through CUDA graphs: one launch for all kernels of a forward pass, where PyTorch has one for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from toolkit.data.tokenization import Batch
from toolkit.inference.runtimes import TorchRuntime

WARM_UPS = 3  # passes before the capture, as PyTorch's documentation has them: libraries set themselves up meanwhile


class GraphRuntime(TorchRuntime):
    """A Hugging Face classifier in eval mode through a CUDA graph of its forward pass.

    A graph holds for inputs of one shape. That of the last shape is kept; another shape is captured anew.
    A CPU has no graphs: the forward pass runs as usual, over the same fixed inputs.
    """

    def __init__(self, model: Any, device: str = "cpu") -> None:
        super().__init__(model, device)
        self._shape: tuple[int, ...] = ()
        self._fixed: dict[str, Any] = {}  # name to [B, L]: where a graph reads its inputs
        self._replay: Callable[[], Any] = lambda: None  # gives the logits [B, C]

    def run(self, batch: Batch) -> np.ndarray:
        """Compute logits [B, C] float32 from int64 arrays [B, L] by name."""
        import torch

        feed = {name: torch.from_numpy(array) for name, array in batch.items() if name in self.inputs}
        with torch.inference_mode():
            if (shape := batch["input_ids"].shape) != self._shape:
                self._fixed = {name: tensor.to(self.device, copy=True) for name, tensor in feed.items()}
                self._replay, self._shape = self._capture(), shape
            for name, tensor in feed.items():
                self._fixed[name].copy_(tensor)
            return np.asarray(self._replay().float().cpu().numpy())

    def _capture(self) -> Callable[[], Any]:
        import torch

        if torch.device(self.device).type != "cuda":
            return lambda: self.model(**self._fixed).logits
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self.model(**self._fixed)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self.model(**self._fixed).logits

        def replay() -> Any:
            graph.replay()
            return logits

        return replay
