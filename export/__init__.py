"""From a PyTorch bundle to verified ONNX: graph, quantize, verify, pipeline."""
