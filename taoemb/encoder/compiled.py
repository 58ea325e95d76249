"""The encoder as an OpenVINO model, for bulk embedding on CPUs: a stream and a request in flight for each thread.

It is traced from torch when it is made, used for one catalogue and thrown away: there is no file that could belong to
other weights. Before it is used, its vectors are compared with torch's.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from taoemb.encoder.agreement import CHECK_TEXTS, lowest_cosine
from taoemb.encoder.batching import TokenBatch
from taoemb.encoder.model import TEXTS_AT_ONCE, Encoder, Kind
from taoemb.encoder.whole import Whole
from taoemb.errors import InputError
from taoemb.progress import Progress

if TYPE_CHECKING:
    import openvino

LEAST_COSINE = {"fp32": 1 - 1e-5, "bf16": 0.99}
"""With torch's fp32 vectors, on the check texts; bf16's is what the query server asks of its backends."""


class CompiledEncoder:
    """Vectors of items or queries as :meth:`Encoder.encode` gives them, by OpenVINO; the weights are copies."""

    def __init__(self, encoder: Encoder, kind: Kind, threads: int | None = None) -> None:
        """`threads` defaults to torch's. Raises InputError when the model can't be converted or its vectors differ."""
        import openvino

        self._encoder, self._kind = encoder, kind
        threads = threads or torch.get_num_threads()
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if encoder.bf16 else "f32",
        }
        self._queue = openvino.AsyncInferQueue(
            openvino.Core().compile_model(_convert(encoder, kind), "CPU", options), threads
        )
        self.min_cosine = self._check()

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Vectors (N, D) float32, L2-normalised, of any number of texts; memory beyond them is bounded."""
        vectors_ND = np.empty((len(texts), self._encoder.spec.dimension), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            chunk = texts[start : start + TEXTS_AT_ONCE]
            self._run(self._encoder.tokenize(chunk, self._kind), vectors_ND[start : start + len(chunk)], progress)
        return vectors_ND

    def _run(self, batches: Sequence[TokenBatch], vectors_ND: np.ndarray, progress: Progress | None) -> None:
        def keep(request: "openvino.InferRequest", order: np.ndarray) -> None:
            vectors_ND[order] = request.get_output_tensor(0).data

        self._queue.set_callback(keep)
        for batch in batches:  # waits for a free request; inputs are copied into it
            self._queue.start_async([batch.input_ids_NT.numpy(), batch.mask_NT.numpy()], batch.order)
            if progress is not None:
                progress.advance(len(batch.order))
        self._queue.wait_all()

    def _check(self) -> float:
        encoder, precision = self._encoder, self._encoder.precision
        encoder.precision = "fp32"
        try:
            reference_ND = encoder.encode(CHECK_TEXTS, self._kind)
        finally:
            encoder.precision = precision
        cosine, text = lowest_cosine(reference_ND, self.encode(CHECK_TEXTS), CHECK_TEXTS)
        least = LEAST_COSINE["bf16" if encoder.bf16 else "fp32"]
        if cosine < least:
            raise InputError(
                f"encoder.bulk_backend openvino: cosine {cosine:.5f} with torch's vectors on {text[:40]!r} is below "
                f"{least:g}; use encoder.bulk_backend=torch"
            )
        return cosine


def _convert(encoder: Encoder, kind: Kind) -> "openvino.Model":
    """The traced model, with free numbers of texts and tokens."""
    import openvino
    from openvino.frontend import GeneralFailure, NotImplementedFailure, OpConversionFailure, OpValidationFailure

    failed = (GeneralFailure, NotImplementedFailure, OpConversionFailure, OpValidationFailure)  # no RuntimeErrors
    [batch] = encoder.tokenize(["red running shoes for men", "usb c"], kind, 1)
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about branches on shapes: whether they hold is checked on other shapes
            return openvino.convert_model(
                Whole(encoder).eval(), example_input=(batch.input_ids_NT, batch.mask_NT), input=[[-1, -1], [-1, -1]]
            )
    except (*failed, RuntimeError, TypeError, ValueError) as error:
        family = encoder.backbone.config.model_type
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"encoder.bulk_backend openvino: a {family} model can't be converted ({type(error).__name__}: {reason}); "
            f"use encoder.bulk_backend=torch"
        ) from error
    finally:
        encoder.train(training)
