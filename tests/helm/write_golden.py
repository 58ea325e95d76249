"""`make golden`: write the renders that tests compare with; the CRD and the dashboards have tests of their own."""

from tests.helm.rendering import MATRIX, ROOT, rendered

GOLDEN = ROOT / "tests" / "helm" / "golden"


def golden(values: str) -> str:
    """The render of a file of ci/, as it is kept."""
    return rendered(values, "--set", "crds.install=false,monitoring.dashboards.enabled=false")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in MATRIX:
        (GOLDEN / f"{name}.yaml").write_text(golden(name), encoding="utf-8")
