"""Loading the embedder neither imports OpenVINO's telemetry nor writes into the user's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_LOAD = """
import sys
from kb.embedding import MiniLM
MiniLM()(["a sentence", "another one"])
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry") and sys.modules[name] is not None))
"""


def test_the_embedder_loads_without_telemetry_even_where_the_package_is_installed(tmp_path: Path) -> None:
    package, home = tmp_path / "packages" / "openvino_telemetry", tmp_path / "home"
    package.mkdir(parents=True)
    home.mkdir()
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n", encoding="utf-8")
    search_path = os.pathsep.join([str(package.parent), *sys.path])
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": search_path}
    done = subprocess.run([sys.executable, "-c", _LOAD], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert not (tmp_path / "imported").exists()
    assert not list(home.iterdir())
