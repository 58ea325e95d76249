"""Rivals whose packages don't go together with ours run in environments of their own, made when first asked for.

    python -m benchmarks.rivals.environment        # make them all

Each is a folder under .venv-rivals/; its requirements stand beside this file.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Literal

Rival = Literal["infinity", "openvino"]
REQUIREMENTS = {"infinity": "requirements.txt", "openvino": "requirements-openvino.txt"}
"""infinity-emb; SentenceTransformer with its OpenVINO backend."""
UNWANTED = {"infinity": (), "openvino": ("torchvision",)}
"""Not needed for texts, and its usual build can't be imported beside a CPU build of torch."""
_HERE = Path(__file__).resolve().parent
_PLACE = _HERE.parent.parent / ".venv-rivals"
_INSTALLED = "installed.txt"


def python(rival: Rival) -> Path:
    """The interpreter of the rival's environment; it is made again when its requirements have changed.

    The first call takes minutes and about 2 GB. Raises CalledProcessError when pip fails.
    """
    wanted = (_HERE / REQUIREMENTS[rival]).read_text(encoding="utf-8")
    folder = _PLACE / rival
    interpreter, note = folder / "bin" / "python", folder / _INSTALLED
    if not (note.is_file() and note.read_text(encoding="utf-8") == wanted):
        print(f"installing {REQUIREMENTS[rival]} into {folder}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        pip = [interpreter, "-m", "pip", "--quiet"]
        subprocess.run([*pip, "install", "--requirement", _HERE / REQUIREMENTS[rival]], check=True)
        if UNWANTED[rival]:
            subprocess.run([*pip, "uninstall", "--yes", *UNWANTED[rival]], check=True)
        note.write_text(wanted, encoding="utf-8")
    return interpreter


def variables(threads: int) -> dict[str, str]:
    """Environment variables of a rival's process: `threads` threads, nothing fetched, nothing reported."""
    count = str(threads)
    told = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "DO_NOT_TRACK": "1"}
    told |= {"INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    return {**os.environ, **told, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "TOKENIZERS_PARALLELISM": "true"}


if __name__ == "__main__":
    for name in ("infinity", "openvino"):
        print(python(name))
