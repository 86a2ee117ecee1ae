"""Explains why vLLM exited from its log, with a remedy. Tested on logs of real failures."""

from __future__ import annotations

import re

_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"Free memory on device.*less than desired GPU memory utilization",
        "other programs use the GPU: stop them (see `nvidia-smi`), then resume the run",
    ),
    (
        r"To serve at least one request.*KV cache|larger than the (available|maximum).*KV cache|No available memory for the",
        "not enough memory for the KV cache of {model}: lower max_model_len, or use a smaller model",
    ),
    (
        r"User-specified max_model_len|greater than the derived max_model_len",
        "max_model_len exceeds the context of {model}: lower it or remove it",
    ),
    (
        r"out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc",
        "{model} doesn't fit into memory: use a smaller model, lower max_model_len, or stop other programs",
    ),
    (
        r"gated repo|GatedRepoError|401 Client Error",
        "{model} is gated: request access on the hub, then run `hf auth login`",
    ),
    (
        r"offline mode|OfflineModeIsEnabled|LocalEntryNotFoundError|couldn't connect to|Network is unreachable|Max retries ",
        "{model} isn't in the hub cache and the hub can't be reached: download it first, or use a folder",
    ),
    (
        r"is not a local folder and is not a valid|RepositoryNotFoundError|Repository Not Found|Can't load the configuration",
        "vLLM can't find the model {model}: correct the name or the folder",
    ),
    (
        r"Cannot find any model weights|No model weights|no file named .*safetensors",
        "the folder of {model} has no weights: copy or download them again",
    ),
    (
        r"SafetensorError|header too large|MetadataIncompleteBuffer|size mismatch",
        "the weights of {model} are damaged or don't match its config.json: copy or download them again",
    ),
    (
        r"not supported for now|has no vLLM implementation|architectures.*not supported|does not recognize this architecture",
        "this vLLM doesn't know the architecture of {model}: use engine: transformers, or a newer vLLM",
    ),
    (
        r"Unsupported CPU attention configuration",
        "this vLLM does not support the head size of {model} on a CPU: use engine: transformers, or a GPU",
    ),
    (r"[Aa]ddress already in use", "its port is in use: resume the run"),
)
_LIBRARY = re.compile(r"^.*?(?:ERROR [\d: -]+\[[^\]]*\]\s*|\(\w+ pid=\d+\)\s*)+")
_RAISED = re.compile(r"\b\w*(?:Error|Exception)\b: ")
_ECHO = re.compile(r"EngineDeadError|Worker failed with error|Engine core initialization failed|(See|check the) stack")


def explain(log: str, code: int, model: str) -> str:
    """The cause of an exit. `code` is the exit status as in a shell (128 + n for signal n)."""
    for pattern, sentence in _CAUSES:
        if match := re.search(pattern, log):
            return f"{sentence.format(model=model)}; log: {_line(log, match.start())}"
    if code in (132, -4):
        return "the processor lacks an instruction (SIGILL): set dtype: float32"
    if code in (137, -9):
        return "it was killed, probably because memory ran out: use a smaller model or lower max_model_len, then resume"
    errors = [match.end() for match in _RAISED.finditer(log) if not _ECHO.search(_line(log, match.end()))]
    reason = f"log: {_line(log, errors[-1])}" if errors else "the log gives no reason"
    return f"exit status {code}; {reason}; see the log, then resume the run"


def _line(log: str, at: int) -> str:
    start, end = log.rfind("\n", 0, at) + 1, log.find("\n", at)
    line = _LIBRARY.sub("", log[start : end if end >= 0 else len(log)])
    return " ".join(line.split())[:240]
