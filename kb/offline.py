"""Keeps the process and its children off the network: no telemetry, version checks, downloads, or proxy for loopback.

Call `go_offline` before importing a library; most read these settings only at import.
"""

from __future__ import annotations

import os
import sys

LOOPBACK = ("localhost", "127.0.0.1", "::1")

# Telemetry stays off, whatever the environment says.
_CLOSED = {
    "ANONYMIZED_TELEMETRY": "False",  # Chroma
    "DISABLE_TELEMETRY": "1",  # Hugging Face, like the next two
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",  # includes Gradio's version check
    "OTEL_SDK_DISABLED": "true",  # OpenTelemetry, loaded by Chroma and DBOS
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
}
# Downloads are off unless the user's environment allows them.
_DEFAULTS = {"HF_HUB_OFFLINE": "1"}
# Packages whose import alone sends telemetry. openvino works without this one.
_BLOCKED = ("openvino_telemetry",)


def go_offline() -> None:
    """Disables telemetry and downloads of libraries, here and in child processes. Safe to call again."""
    os.environ.update(_CLOSED)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in _BLOCKED:
        sys.modules[name] = None  # type: ignore[assignment]  # how Python spells "this import fails"
    _reach_loopback_directly()


def _reach_loopback_directly() -> None:
    """Adds this machine to the hosts reached without a proxy, in both spellings of the variable, merging their values:
    most libraries prefer the lower-case one."""
    configured = ",".join(filter(None, (os.environ.get("no_proxy"), os.environ.get("NO_PROXY"))))
    hosts = [host.strip() for host in configured.split(",") if host.strip()]
    if "*" not in hosts:
        value = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = value
