"""Get the CRDs of the projects whose objects the chart makes, each from one pinned commit of its repository.

`python scripts/fetch_crds.py` puts them into the virtual environment's cache, where the tests look when there is no
`../shared/crds`.
"""

import sys
from pathlib import Path

import httpx

CACHE = Path(sys.prefix) / "cache" / "crds"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "crds"
_SOURCES = {
    "kserve": (
        "kserve/kserve/1fb781055dd1567164358233e1125142ca6ef1fe/config/crd/full",
        "serving.kserve.io",
        ("inferenceservices", "servingruntimes"),
    ),
    "trainer": (
        "kubeflow/trainer/658725bdae5c7e3a0854d93ac6ff492e109a22ab/manifests/base/crds",
        "trainer.kubeflow.org",
        ("clustertrainingruntimes", "trainingruntimes", "trainjobs"),
    ),
    "gateway-api": (
        "kubernetes-sigs/gateway-api/8bb74df00e56ec8f944d48c25e6c1c9c2f6848e3/config/crd/standard",
        "gateway.networking.k8s.io",
        ("gateways", "httproutes"),
    ),
    "milvus-operator": (
        "zilliztech/milvus-operator/31b2ec588d19d7c66535125422d8e4de732835ab/config/crd/bases",
        "milvus.io",
        ("milvuses",),
    ),
    "prometheus-operator": (
        "prometheus-operator/prometheus-operator/f8fafd475f3d132e239432ae6172de60a6cb6516/example/prometheus-operator-crd",
        "monitoring.coreos.com",
        ("podmonitors", "prometheusrules", "servicemonitors"),
    ),
    "kfp": (
        "kubeflow/pipelines/4a3592cb2dd0a91a4652ab93893ec8beda1f3158/manifests/kustomize/base/crds",
        "pipelines.kubeflow.org",
        ("pipelines", "pipelineversions"),
    ),
}


def crd_folder() -> Path | None:
    """Where the CRDs lie, a folder a project; None when they were never fetched."""
    return next((folder for folder in (SHARED, CACHE) if folder.is_dir()), None)


def fetch() -> None:
    """Write every file. Raises httpx.HTTPError when one can't be had."""
    with httpx.Client(base_url="https://raw.githubusercontent.com/", timeout=60, follow_redirects=True) as client:
        for project, (where, group, kinds) in _SOURCES.items():
            for kind in kinds:
                name = f"{group}_{kind}.yaml"
                text = client.get(f"{where}/{name}").raise_for_status().text
                file = CACHE / project / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        fetch()
    except httpx.HTTPError as error:
        sys.exit(f"can't fetch: {error}")
    print(CACHE)
