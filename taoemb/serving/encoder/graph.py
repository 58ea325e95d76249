"""A release's query encoder as an ONNX graph: token ids and mask in, normalised vectors out.

Pooling, the cut to the release's dimension and the normalisation are inside, so that no runtime can do them
differently.
"""

import logging
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from taoemb.encoder.model import Encoder
from taoemb.encoder.whole import Whole
from taoemb.errors import InputError
from taoemb.storage import share

GraphPrecision = Literal["fp32", "int8"]
INPUTS = ("input_ids", "attention_mask")
OUTPUT = "vectors"
BLOCK = 32  # weights that share a scale; 8 bits in blocks of 32 keep the cosine above 0.999
_FILE = "encoder.onnx"
_FORMAT = "graph-1"


@contextmanager
def graph(encoder: Encoder, digest: str, precision: GraphPrecision, kept: Path | None) -> Iterator[Path]:
    """The ONNX file of the release `digest`, exported unless the folder `kept` holds it already.

    Without `kept` it vanishes at the end of the block. Raises InputError when the model can't be exported.
    """
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="taoemb-graph-") as folder:
            _make(encoder, digest, precision, None, Path(folder) / _FILE)
            yield Path(folder) / _FILE
        return
    place = kept / digest / f"{_FORMAT}-{precision}"
    if not place.is_dir():
        partial = place.parent / f".partial-{uuid.uuid4().hex[:8]}"
        partial.mkdir(parents=True)
        try:
            _make(encoder, digest, precision, kept, partial / _FILE)
            share(partial)
            _put(partial, place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    yield place / _FILE


def _put(partial: Path, place: Path) -> None:
    try:
        os.rename(partial, place)
    except OSError:
        if not place.is_dir():  # else another server was faster, with the same graph
            raise


def _make(encoder: Encoder, digest: str, precision: GraphPrecision, kept: Path | None, target: Path) -> None:
    if precision == "fp32":
        export(encoder, target)
    else:
        with graph(encoder, digest, "fp32", kept) as source:
            quantise(source, target)


def export(encoder: Encoder, path: Path) -> None:
    """Write the fp32 graph, with free numbers of texts and tokens. Raises InputError when torch can't export it."""
    [batch] = encoder.tokenize(["red running shoes", "usb c"], "query", 1)  # no axis of length 1: it would be fixed
    tokens = torch.export.Dim("tokens", min=1, max=encoder.spec.max_query_tokens)
    axes = {0: torch.export.Dim("texts", min=1), 1: tokens}
    for talker in ("torch.onnx", "onnx_ir", "onnxscript"):
        logging.getLogger(talker).setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own insides
        try:
            torch.onnx.export(
                Whole(encoder).eval(),
                (batch.input_ids_NT, batch.mask_NT),
                str(path),
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamic_shapes=dict.fromkeys(INPUTS, axes),
                dynamo=True,
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            kind = encoder.backbone.config.model_type
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"a {kind} model can't be exported to ONNX ({type(error).__name__}: {reason}); "
                "use encoder_server.backend=torch"
            ) from error


def quantise(source: Path, target: Path) -> None:
    """Write `source` with its matrices in 8 bits, a scale for each block of `BLOCK` weights; activations stay float.

    Quantising whole activation tensors as well (onnxruntime's dynamic quantisation) was faster in onnxruntime but
    took the cosine of some texts below 0.99, and slower in openvino.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(
        onnx.load(str(source)), bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=4
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(target), use_external_data_format=True)
