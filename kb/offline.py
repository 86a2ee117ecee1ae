"""Keeps the process and its children off the network: no telemetry, no version checks, no downloads, no proxy for loopback.

Call `go_offline` before a library is imported; most read these settings once, when they are imported. Knows no library's API.
"""

from __future__ import annotations

import os
import sys

LOOPBACK = ("localhost", "127.0.0.1", "::1")

# What the libraries send unasked is closed, whatever the environment says.
_CLOSED = {
    "ANONYMIZED_TELEMETRY": "False",  # Chroma
    "DISABLE_TELEMETRY": "1",  # Hugging Face, as are the next two
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",  # and Gradio's check for a newer version
    "OTEL_SDK_DISABLED": "true",  # OpenTelemetry, which Chroma and DBOS load
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
}
# Downloads are closed as well, unless the user's environment opens them.
_DEFAULTS = {"HF_HUB_OFFLINE": "1"}
# Packages whose import alone sends something. openvino imports it where it can, and does without it where it cannot.
_BLOCKED = ("openvino_telemetry",)


def go_offline() -> None:
    """Closes what libraries would send or fetch by themselves, here and in child processes. Safe to call again."""
    os.environ.update(_CLOSED)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in _BLOCKED:
        sys.modules[name] = None  # type: ignore[assignment]  # how Python spells "this import fails"
    _reach_loopback_directly()


def _reach_loopback_directly() -> None:
    """Adds this machine to the hosts that need no proxy, in both spellings of the variable. The lower case one wins in most
    libraries, so each keeps what either says."""
    given = ",".join(filter(None, (os.environ.get("no_proxy"), os.environ.get("NO_PROXY"))))
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    if "*" not in hosts:
        value = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = value
