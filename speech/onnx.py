"""ONNX models of the gateway: each runs on one core, beside the event loop of its process."""

from pathlib import Path

import onnxruntime

from speech.engines import EngineError


def open_on_one_core(model: Path, name: str) -> onnxruntime.InferenceSession:
    """The model in ``model``, on the CPU. Raises EngineError, naming ``name`` and the file, when it does not load."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise EngineError(f"{name} does not load from {model.name}: {error}") from error
