"""What computes a query's vector: torch, or a graph of the release in ONNX Runtime or OpenVINO."""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from taoemb.config import EncoderServerConfig
from taoemb.encoder.batching import TokenBatch
from taoemb.encoder.hardware import has_bf16
from taoemb.encoder.model import Encoder
from taoemb.errors import InputError
from taoemb.serving.encoder.graph import INPUTS, OUTPUT, GraphPrecision, graph
from taoemb.serving.encoder.model import Backend

PRECISIONS = {
    "torch": ("fp32", "bf16"),
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}


def check_precision(config: EncoderServerConfig) -> None:
    """Raise InputError when the backend does not compute in that precision."""
    able = PRECISIONS[config.backend]
    if config.precision not in able:
        raise InputError(
            f"encoder_server.precision {config.precision}: {config.backend} computes in {' or '.join(able)}"
        )


def torch_backend(encoder: Encoder) -> Backend:
    """`encoder` as it stands, on its device and in its precision."""

    def run(batch: TokenBatch) -> np.ndarray:
        alone = dataclasses.replace(batch, order=np.arange(len(batch.order)))
        with torch.inference_mode():
            return encoder([alone]).cpu().numpy()

    return run


def torch_bf16_backend(encoder: Encoder, device: torch.device) -> Backend:
    """`encoder` with its weights turned to bf16."""
    if not has_bf16(device):
        raise InputError("encoder_server.precision bf16: this processor has no bf16 arithmetic; use fp32")
    encoder.backbone.to(torch.bfloat16)
    return torch_backend(encoder)


def graph_backend(encoder: Encoder, digest: str, config: EncoderServerConfig) -> Backend:
    """The exported graph in the runtime that the config names."""
    precision: GraphPrecision = "int8" if config.precision == "int8" else "fp32"
    with graph(encoder, digest, precision, config.graphs) as path:
        if config.backend == "onnxruntime":
            return _onnxruntime(path, config.threads)
        return _openvino(path, config)


def _onnxruntime(path: Path, threads: int | None) -> Backend:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    unreadable = (errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.NoSuchFile, errors.InvalidArgument)
    failed = (errors.Fail, errors.RuntimeException, errors.EPFail)  # no RuntimeErrors by themselves
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: all
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except unreadable as error:
        raise _unreadable(path, error) from error

    def run(batch: TokenBatch) -> np.ndarray:
        try:
            [vectors_ND] = session.run([OUTPUT], _feed(batch))
        except failed as error:
            raise RuntimeError(str(error)) from error
        return vectors_ND

    return run


def _openvino(path: Path, config: EncoderServerConfig) -> Backend:
    import openvino

    core = openvino.Core()
    if config.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise InputError("encoder_server.precision bf16: this processor has no bf16 arithmetic; use fp32 or int8")
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if config.precision == "bf16" else "f32",
    }
    if config.threads is not None:
        options["INFERENCE_NUM_THREADS"] = str(config.threads)
    try:
        model = core.compile_model(core.read_model(str(path)), "CPU", options)
    except RuntimeError as error:
        raise _unreadable(path, error) from error

    def run(batch: TokenBatch) -> np.ndarray:
        return np.array(model(_feed(batch))[OUTPUT])  # a copy: the runtime uses its memory again

    return run


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{path}: can't be read ({reason}); delete its folder, and it is exported again")


def _feed(batch: TokenBatch) -> dict[str, np.ndarray]:
    return dict(zip(INPUTS, (batch.input_ids_NT.numpy(), batch.mask_NT.numpy()), strict=True))
