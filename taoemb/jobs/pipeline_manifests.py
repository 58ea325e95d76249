"""Pipelines as Kubernetes objects (Pipeline and PipelineVersion), for those whose cluster follows a Git repository."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from taoemb.jobs.pipeline_compile import compile_pipelines, load_pipeline, with_image
from taoemb.jobs.pipelines import BASE_IMAGE


def write_manifests(
    folder: Path, names: Sequence[str], out: Path, namespace: str = "", image: str = BASE_IMAGE
) -> list[Path]:
    """Write `out`/NAME.yaml with the objects of each pipeline source in `folder` (default: all); returns the files.

    A version is named after its content, because Kubeflow Pipelines never changes one. The compiled files beside the
    sources are brought up to date too. Raises InputError as `compile_pipelines` does.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for entry in compile_pipelines(folder, names, image=image):
        digest = hashlib.sha256(entry.file.read_bytes()).hexdigest()[:8]
        target = out / f"{entry.name}.yaml"
        target.write_text(_objects(folder / f"{entry.name}.py", digest, namespace, image), encoding="utf-8")
        written.append(target)
    return written


def _objects(source: Path, digest: str, namespace: str, image: str) -> str:
    from kfp.compiler import Compiler
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    pipeline = load_pipeline(source)
    options = KubernetesManifestOptions(
        pipeline_name=pipeline.name,
        pipeline_version_name=f"{pipeline.name}-{digest}",
        namespace=namespace or None,
        include_pipeline_manifest=True,
    )
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / "objects.yaml"
        Compiler().compile(pipeline, str(target), kubernetes_manifest_options=options, kubernetes_manifest_format=True)
        return with_image(target.read_text(encoding="utf-8"), image)
