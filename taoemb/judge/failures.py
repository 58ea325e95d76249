"""Why a judge stopped a job: one family of errors, so that whoever must save its work first can catch them all."""

from taoemb.errors import TaoembError


class JudgeFailure(TaoembError):
    """A job that needs a judge can't go on; what was judged before is kept. One of the kinds below."""


class JudgeUnavailable(JudgeFailure):
    """The judge can't be used: it stayed away for longer than `judge.wait_s`, or it is unfit."""


class JudgeUnfit(JudgeUnavailable):
    """The judge answers, but not with grades, or not this client: waiting mends nothing, a setting does."""


class JudgeChanged(JudgeFailure):
    """Another judge answers under the address of the one that the job began with."""


class CacheFailure(JudgeFailure):
    """The file of earlier judgments can't be read or written any more: locked, damaged, read-only, or its disk full."""
