"""Other runtimes for a classifier: CTranslate2, OpenVINO, torch.compile. They are optional: the extra `peers`.

Each takes the padded batch that our own runtimes take and gives logits, so that one benchmark times them all. None of
them serves. `check_peer` holds a peer's logits against a reference before its speed counts.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.console import quiet_libraries
from toolkit.data.tokenization import Batch
from toolkit.errors import ToolkitError, require_packages
from toolkit.inference.runtimes import Runtime, TorchRuntime

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# root mean square error of a peer's logits, as a share of the reference's own root mean square
MAX_ERROR = {"fp32": 1e-3, "int8": 0.5}


class CTranslate2Runtime:
    """CTranslate2 (https://github.com/OpenNMT/CTranslate2): its converter for the encoder, our head in numpy.

    Args:
        source: a Hugging Face directory of a BERT classifier with PyTorch weights and a tokenizer.
        precision: "int8" (weights by row, activations by row at run time) or "fp32".
        threads: of each run.

    Raises:
        ToolkitError: the packages are missing, or the directory holds no BERT classifier.
    """

    def __init__(self, source: Path, *, precision: str = "int8", threads: int = 1) -> None:
        require_packages("ctranslate2", "torch", "transformers", purpose="CTranslate2 as a peer")
        import ctranslate2

        kind = {"int8": "int8", "fp32": "float32"}[precision]
        head = TorchRuntime.load(source).model
        if head.config.model_type != "bert":
            raise ToolkitError(f"{source}: no peer for {head.config.model_type} in CTranslate2", expected="a BERT")
        self.weight = head.classifier.weight.detach().numpy()  # [C, H]
        self.bias = head.classifier.bias.detach().numpy()  # [C]
        with tempfile.TemporaryDirectory(prefix="toolkit-ctranslate2-") as scratch, quiet_libraries():
            model = str(Path(scratch) / "model")
            ctranslate2.converters.TransformersConverter(str(source)).convert(model, quantization=kind)
            self.encoder = ctranslate2.Encoder(
                model, device="cpu", compute_type=kind, intra_threads=threads, inter_threads=1
            )

    def run(self, batch: Batch) -> np.ndarray:
        """[B, L] int64 arrays by name, padded on the right, to logits [B, C] float32."""
        lengths = batch["attention_mask"].sum(axis=1)
        ids, types = (
            [row[:length].tolist() for row, length in zip(batch[name], lengths, strict=True)]
            for name in ("input_ids", "token_type_ids")
        )
        pooled = np.asarray(self.encoder.forward_batch(ids, token_type_ids=types).pooler_output)  # [B, H]
        return np.asarray(pooled @ self.weight.T + self.bias, dtype=np.float32)


class OpenVinoRuntime:
    """OpenVINO (https://docs.openvino.ai) on the CPU, reading our fp32 ONNX.

    Args:
        onnx: the fp32 model.
        precision: "fp32", held to float32 throughout, or "int8": NNCF's post-training quantization for transformers
            (SmoothQuant, static activation scales), with what OpenVINO chooses by itself for the rest, which is
            bfloat16 where the CPU has it.
        threads: of each run.
        calibration: batches of the task's own inputs; int8 takes its activation scales from them.

    Raises:
        ToolkitError: the packages are missing, the file cannot be read, or int8 has no calibration batches.
    """

    def __init__(
        self, onnx: Path, *, precision: str = "fp32", threads: int = 1, calibration: Sequence[Batch] = ()
    ) -> None:
        require_packages("openvino", *(["nncf"] if precision == "int8" else []), purpose="OpenVINO as a peer")
        # openvino and nncf report to Google Analytics when they are imported, unless this package of theirs is missing
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(onnx)
        except RuntimeError as error:
            raise ToolkitError(f"OpenVINO cannot read {onnx}: {error}", expected="an fp32 model.onnx") from None
        self.inputs = [name for name in INPUTS if name in {port.get_any_name() for port in model.inputs}]
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        if precision == "int8":
            model = self._quantized(model, calibration)
        else:
            settings["INFERENCE_PRECISION_HINT"] = "f32"  # else it computes in bfloat16 where the CPU has it
        self.request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(self, batch: Batch) -> np.ndarray:
        """[B, L] int64 arrays by name to logits [B, C] float32."""
        outputs = self.request.infer({name: batch[name] for name in self.inputs}, share_inputs=True)
        return np.array(outputs["logits"], dtype=np.float32)

    def _quantized(self, model: Any, calibration: Sequence[Batch]) -> Any:
        if not calibration:
            raise ToolkitError("OpenVINO's int8 needs calibration batches", expected="some of the task's own inputs")
        feeds = [{name: batch[name] for name in self.inputs} for batch in calibration]
        with quiet_libraries():
            import nncf

            nncf.set_log_level(logging.ERROR)
            return nncf.quantize(
                model, nncf.Dataset(feeds), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(feeds)
            )


class CompiledTorchRuntime(TorchRuntime):
    """A Hugging Face classifier through `torch.compile`, compiled here for inputs of any shape.

    Raises:
        ToolkitError: it cannot be compiled on this machine.
    """

    def __init__(self, model: Any, device: str = "cpu") -> None:
        require_packages("torch", "transformers", purpose="torch.compile as a peer")
        import torch

        super().__init__(model, device)
        try:
            with quiet_libraries():
                self.model.forward = torch.compile(self.model.forward, dynamic=True)
                for size in (1, 2):  # a batch of one is compiled apart, whatever is said of shapes
                    ones = np.ones((size, 8), dtype=np.int64)
                    self.run({"input_ids": ones, "attention_mask": ones, "token_type_ids": 0 * ones})
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise ToolkitError(f"torch.compile fails here: {reason}", expected="a C++ compiler (g++)") from None


def check_peer(name: str, peer: Runtime, reference: Runtime, batches: Sequence[Batch], precision: str) -> float:
    """Return the error of a peer's logits p against a reference's r: sqrt(mean((p - r)^2) / mean(r^2)), all batches.

    Raises:
        ToolkitError: the error is above MAX_ERROR of the precision, or no number: this is not the same model.
    """
    logits, expected = (np.concatenate([runtime.run(batch) for batch in batches]) for runtime in (peer, reference))
    error = float(np.sqrt(np.mean((logits - expected) ** 2) / np.mean(expected**2)))
    if not error <= MAX_ERROR[precision]:
        raise ToolkitError(
            f"{name} does not compute the same model: its logits are off by {error:.2g} of their size",
            expected=f"at most {MAX_ERROR[precision]:g} in {precision}",
        )
    return error
