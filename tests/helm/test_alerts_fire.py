"""Each alert fires on series that show its trouble, and stays quiet on those of a healthy shop: promtool says so.

The series carry the names and labels of the code's own metrics; a label that no metric has is a mistake of this file.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from taoemb.judge.metrics import judge_metrics
from taoemb.rollout.controller.health import Health
from taoemb.serving.events.recorder_metrics import recorder_metrics
from taoemb.serving.gateway.metrics import gateway_metrics
from tests.helm.rendering import NAMESPACE, objects, of_kind

SHOP = f'namespace="{NAMESPACE}"'
SEARCHES = f"taoemb_gateway_searches_total{{{SHOP},"
SECONDS = f'taoemb_gateway_search_seconds_bucket{{{SHOP},part="total",'
ROLLOUT = f'{{{SHOP},rollout_namespace="{NAMESPACE}",rollout="first"'
JUDGE = "http://judge/v1"


@dataclass(frozen=True)
class Story:
    """What Prometheus scraped, every 30 s for 40 minutes, in promtool's notation."""

    alert: str
    series: dict[str, str]
    fires: bool = True


def slow(share_fast: int) -> dict[str, str]:
    """A hundred searches a minute of which so many are answered within 0.2 s, all within 1 s."""
    return {
        SECONDS + 'le="0.2"}': f"0+{share_fast}x80",
        SECONDS + 'le="1.0"}': "0+100x80",
        SECONDS + 'le="+Inf"}': "0+100x80",
    }


def searches(ok: int, error: int = 0, taken_over: int = 0) -> dict[str, str]:
    """Searches between two scrapes: of the control, failed, and the candidate's that the control answered."""
    return {
        SEARCHES + 'assigned="control",served="control",status="ok"}': f"0+{ok}x80",
        SEARCHES + 'assigned="control",served="none",status="error"}': f"0+{error}x80",
        SEARCHES + 'assigned="candidate",served="candidate",status="ok"}': f"0+{ok - taken_over}x80",
        SEARCHES + 'assigned="candidate",served="control",status="ok"}': f"0+{taken_over}x80",
    }


def up(job: str, value: str) -> dict[str, str]:
    return {f'up{{job="{NAMESPACE}/{job}"}}': value}


def verdict(check: str, points_to: str) -> dict[str, str]:
    return {f'taoemb_rollout_check{ROLLOUT},check="{check}",points_to="{points_to}"}}': "1x80"}


def ticks(failed: str) -> dict[str, str]:
    return {
        f'taoemb_rollout_controller_ticks_total{{{SHOP},result="failed"}}': failed,
        f'taoemb_rollout_controller_ticks_total{{{SHOP},result="ok"}}': "0+6x80",
    }


def breaker(values: str) -> dict[str, str]:
    return {f'taoemb_judge_breaker_state{{{SHOP},judge="{JUDGE}"}}': values}


LOST = f'taoemb_events_lost_rows_total{{{SHOP},table="pages"}}'
LAG = f"taoemb_events_lag_seconds{{{SHOP}}}"
AWAY = f"taoemb_events_database_away{{{SHOP}}}"
MISMATCHES = f"taoemb_gateway_digest_mismatches_total{{{SHOP}}}"
READ = f"taoemb_gateway_traffic_read_timestamp_seconds{{{SHOP}}}"
LEADING = f"taoemb_rollout_controller_leading{{{SHOP}}}"
DEGRADED = f"taoemb_rollout_degraded{ROLLOUT}}}"
COSINE = 'taoemb_training_metric{namespace="jobs",pod="grpo-0",name="cosine_items"}'
STORIES = [
    Story("TaoembSearchErrors", searches(ok=100, error=5)),
    Story("TaoembSearchErrors", searches(ok=10_000, error=5), fires=False),
    Story("TaoembSearchSlow", slow(90)),
    Story("TaoembSearchSlow", slow(100), fires=False),
    Story("TaoembDigestMismatch", {MISMATCHES: "0x70 3x10"}),
    Story("TaoembDigestMismatch", {MISMATCHES: "3x80"}, fires=False),
    Story("TaoembSplitStale", {READ: "0+30x40 1200x40"}),
    Story("TaoembSplitStale", {READ: "0+30x80"}, fires=False),
    Story("TaoembCandidateFallsBack", searches(ok=100, taken_over=20)),
    Story("TaoembCandidateFallsBack", searches(ok=100), fires=False),
    Story("TaoembEventsBehind", {LAG: "0+30x80"}),
    Story("TaoembEventsBehind", {AWAY: "0x60 1x20"}),
    Story("TaoembEventsBehind", {LAG: "2x80", AWAY: "0x80"}, fires=False),
    Story("TaoembEventsLost", {LOST: "0x70 40x10"}),
    Story("TaoembEventsLost", {LOST: "0x80"}, fires=False),
    Story("TaoembEncoderDown", up("taoemb-encoder", "1x40 0x40")),
    Story("TaoembEncoderDown", {}),
    Story("TaoembEncoderDown", up("taoemb-encoder", "1x80"), fires=False),
    Story("TaoembJudgeDown", {}),
    Story("TaoembJudgeUnreachable", breaker("2x80")),
    Story("TaoembJudgeUnreachable", breaker("0x20" + 20 * " 2 2 1")),
    Story("TaoembJudgeUnreachable", breaker("0x40 2 1 0x40"), fires=False),
    Story("TaoembNoLeader", {LEADING: "0x80"}),
    Story("TaoembNoLeader", {}),
    Story("TaoembNoLeader", {LEADING: "1x80"}, fires=False),
    Story("TaoembRolloutFails", ticks("0x20 1x10 2x10 3x10 4x30")),
    Story("TaoembRolloutFails", ticks("0x80") | {DEGRADED: "0x50 1x30"}),
    Story("TaoembRolloutFails", ticks("0x80") | {DEGRADED: "0x80"}, fires=False),
    Story("TaoembRolloutFails", ticks("0x40 1x40"), fires=False),
    Story("TaoembSampleRatioMismatch", verdict("sample ratio", "rollback")),
    Story("TaoembSampleRatioMismatch", verdict("sample ratio", "promote"), fires=False),
    Story("TaoembCanaryGuardrail", verdict("error_rate", "rollback")),
    Story("TaoembCanaryGuardrail", verdict("error_rate", "continue"), fires=False),
    Story("TaoembEmbeddingCollapse", {COSINE: "0.2x60 0.97x20"}),
    Story("TaoembEmbeddingCollapse", {COSINE: "0.2x80"}, fires=False),
]


@pytest.fixture(scope="module")
def groups() -> list[dict]:
    """The alerts of the chart with everything on."""
    (rules,) = of_kind(objects("gpu"), "PrometheusRule")
    return rules["spec"]["groups"]


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is missing: `apt-get install prometheus` brings it, `make tools` does so where it may")
    return found


def test_every_alert_fires_once_and_stays_quiet_once(groups, tmp_path):
    tool = promtool()
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    tests = [
        {
            "interval": "30s",
            "input_series": [{"series": name, "values": values} for name, values in story.series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{story.alert}",alertstate="firing"}}) > bool 0 or vector(0)',
                    "eval_time": "40m",
                    "exp_samples": [{"labels": "{}", "value": int(story.fires)}],
                }
            ],
        }
        for story in STORIES
    ]
    file = tmp_path / "stories.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": tests}))
    done = subprocess.run([tool, "test", "rules", str(file)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_is_without_a_story(groups):
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert {story.alert for story in STORIES if story.fires} == alerts
    assert alerts - {story.alert for story in STORIES if not story.fires} <= {"TaoembJudgeDown"}


def test_the_stories_speak_of_labels_that_the_metrics_have():
    registry = CollectorRegistry()
    health = Health(60)
    health.listed([])
    known = {
        metric._name: set(metric._labelnames)
        for metric in [
            *vars(gateway_metrics(registry)).values(),
            *vars(recorder_metrics(registry)).values(),
            *vars(judge_metrics(registry)).values(),
            *(one for name, one in vars(health).items() if name in ("_leading", "_degraded", "_checks", "_ticks")),
        ]
    }
    for story in STORIES:
        for series in story.series:
            name, _, labels = series.partition("{")
            base = re.sub(r"_(total|bucket)$", "", name)
            if base not in ("up", "taoemb_training_metric"):
                assert set(re.findall(r"(\w+)=", labels)) - {"namespace", "le"} == known[base], series


def test_each_alert_leads_to_the_page(groups):
    page = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
    assert "\n## Alerts\n" in page.read_text(encoding="utf-8")
    for group in groups:
        for rule in group["rules"]:
            assert rule["annotations"]["runbook_url"] == "docs/troubleshooting.md#alerts"
