"""A pod's log, each line once, over streams that break: the API server closes them, nodes restart, networks hiccup."""

from collections.abc import Iterator

from taoemb.errors import TaoembError
from taoemb.serving.kube import Objects

SILENT_S = 60.0  # a follower that hears nothing for so long asks again
TAIL = 200


class PodLog:
    """Follows one container's log; every call of `new_lines` goes on where the last one stopped."""

    def __init__(self, objects: Objects, namespace: str, pod: str, container: str) -> None:
        self._objects, self._namespace, self.pod, self._container = objects, namespace, pod, container
        self._last = ("", "")

    def new_lines(self) -> Iterator[str]:
        """Lines until the stream ends, which may be before the log does. Raises TaoembError when there is none."""
        query = {"container": self._container, "follow": "true", "timestamps": "true"}
        if self._last[0]:
            query["sinceTime"] = f"{self._last[0]}Z"
        for line in self._objects.log(self._namespace, self.pod, SILENT_S, **query):
            stamp, _, text = line.partition(" ")
            when = _instant(stamp)
            if when > self._last:
                self._last = when
                yield text

    def tail(self) -> list[str]:
        """The log's last lines; empty when the pod or its log is gone."""
        query = {"container": self._container, "tailLines": str(TAIL)}
        try:
            return list(self._objects.log(self._namespace, self.pod, SILENT_S, **query))
        except TaoembError:
            return []


def _instant(stamp: str) -> tuple[str, str]:
    """An RFC 3339 time in UTC as something that sorts: seconds, and the fraction, whose trailing zeros are cut."""
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    return seconds, fraction
