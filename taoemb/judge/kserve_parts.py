"""The two KServe classes of the judge server; import after `server.import_kserve()`: KServe reads the command line."""

import kserve


class BoundServer(kserve.ModelServer):
    """KServe's model server over HTTP, bound to one address instead of all interfaces."""

    def __init__(self, host: str, port: int, grace_s: int) -> None:
        super().__init__(http_port=port, enable_grpc=False, enable_latency_logging=False, grace_period=grace_s)
        self._host = host

    def register_signal_handler(self) -> None:
        """Also sets the address: start() has made the REST server and calls this before it runs it."""
        self._rest_server.config.host = self._host
        super().register_signal_handler()


class JudgeModel(kserve.Model):
    """What KServe's health and model routes know of the judge; it is asked by chat completions only."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()
