"""Ask for known vulnerabilities of every package in the images' locks (pip-audit), or write their SBOMs (CycloneDX).

    python scripts/audit.py                    # exit 1: a vulnerability, or a gap; 3: nobody answered
    python scripts/audit.py --sbom FOLDER      # one CycloneDX file an image

pip-audit ends with "no known vulnerabilities" also when it could ask nobody. This counts what was really answered.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PIP_AUDIT, CYCLONEDX = "pip-audit==2.10.1", "cyclonedx-bom==7.5.0"
UNKNOWN = 3
"""Exit code when not one package was answered for."""


@dataclass(frozen=True)
class Findings:
    """What is known of one lock."""

    answered: int
    unanswered: tuple[str, ...]
    vulnerable: tuple[str, ...]
    """`package version: id (mended in …)`."""


def read(report: dict[str, Any]) -> Findings:
    """The findings of pip-audit's JSON report."""
    packages = report["dependencies"]
    skipped = tuple(one["name"] for one in packages if "skip_reason" in one)
    vulnerable = tuple(
        f"{one['name']} {one['version']}: {found['id']} (mended in {_versions(found['fix_versions'])})"
        for one in packages
        for found in one.get("vulns", ())
    )
    return Findings(len(packages) - len(skipped), skipped, vulnerable)


def _versions(mended: Sequence[str]) -> str:
    return ", ".join(mended) or "no version yet"


def verdict(found: dict[str, Findings]) -> tuple[int, list[str]]:
    """Exit code and lines; by lock."""
    lines = []
    for lock, one in found.items():
        lines += [f"{lock}: {words}" for words in one.vulnerable]
        if one.unanswered and one.answered:
            lines.append(f"{lock}: not answered for: {', '.join(one.unanswered)}")
    answered, vulnerable = sum(one.answered for one in found.values()), any(one.vulnerable for one in found.values())
    if not answered:
        return UNKNOWN, ["skipped: the vulnerability service answers for no package from here; nothing is known"]
    missing = any(one.unanswered for one in found.values())
    if not vulnerable and not missing:
        lines.append(f"no known vulnerability in {answered} packages")
    return int(vulnerable or missing), lines


def locks() -> list[Path]:
    """The locks of all images, torch's among them."""
    return sorted((ROOT / "images").glob("*/requirements.txt")) + sorted((ROOT / "images" / "torch").glob("*.txt"))


def audit() -> int:
    """Ask, print, and give the exit code."""
    found = {}
    for lock in locks():
        command = [
            "--disable-pip",
            "--require-hashes",
            "--progress-spinner=off",
            "--format=json",
            f"--requirement={lock}",
        ]
        done = _tool(PIP_AUDIT, "pip-audit", command)
        try:
            found[lock.relative_to(ROOT).as_posix()] = read(json.loads(done.stdout))
        except json.JSONDecodeError:
            print(f"{lock}: pip-audit: {(done.stderr.strip().splitlines() or ['said nothing'])[-1]}", file=sys.stderr)
    code, lines = verdict(found)
    print("\n".join(lines))
    return code


def sbom(folder: Path) -> int:
    """Write IMAGE.cdx.json for each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for lock in sorted((ROOT / "images").glob("*/requirements.txt")):
        out = folder / f"{lock.parent.name}.cdx.json"
        done = _tool(CYCLONEDX, "cyclonedx-py", ["requirements", str(lock), "--output-file", str(out)])
        if done.returncode != 0:
            print(f"{lock}: {done.stderr.strip()}", file=sys.stderr)
            return 1
        print(out)
    return 0


def _tool(package: str, name: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uv", "tool", "run", "--from", package, name, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sbom", type=Path, metavar="FOLDER", help="write SBOMs instead")
    told = parser.parse_args()
    sys.exit(audit() if told.sbom is None else sbom(told.sbom))
