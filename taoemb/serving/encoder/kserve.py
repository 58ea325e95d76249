"""What KServe's health and metadata routes know of the encoder; import after `hosting.entry.import_kserve()`."""

import kserve

from taoemb.serving.encoder.v2 import INPUT, OUTPUT


class EncoderModel(kserve.Model):
    """Ready from the start: it is made when the release is loaded and warm. Its vectors come from our own routes."""

    def __init__(self, name: str, dimension: int) -> None:
        super().__init__(name)
        self._dimension = dimension
        self.load()

    def get_input_types(self) -> list[dict]:
        return [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict]:
        return [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, self._dimension]}]
