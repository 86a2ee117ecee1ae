"""What a vLLM that ended says in its log, as a sentence that says whose move it is. Pure; tested on logs of real failures."""

from __future__ import annotations

import re

_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"Free memory on device.*less than desired GPU memory utilization",
        "the GPU is in use by something else: end that (`nvidia-smi` shows it), then resume the run",
    ),
    (
        r"To serve at least one request.*KV cache|larger than the (available|maximum).*KV cache|No available memory for the",
        "no memory is left for the cache of {model}: lower max_model_len, or use a smaller model",
    ),
    (
        r"User-specified max_model_len|greater than the derived max_model_len",
        "max_model_len is more than {model} was made for: lower it or leave it out",
    ),
    (
        r"out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc",
        "{model} doesn't fit into memory: use a smaller model, lower max_model_len, or end what else runs on the machine",
    ),
    (
        r"gated repo|GatedRepoError|401 Client Error",
        "the hub gives {model} only to those who asked for it: ask there, then `hf auth login`",
    ),
    (
        r"offline mode|OfflineModeIsEnabled|LocalEntryNotFoundError|couldn't connect to|Network is unreachable|Max retries ",
        "{model} isn't in the hub's cache here and the hub can't be reached: download it first, or give a folder",
    ),
    (
        r"is not a local folder and is not a valid|RepositoryNotFoundError|Repository Not Found|Can't load the configuration",
        "{model} is no model that vLLM can find: correct the name or the folder",
    ),
    (
        r"Cannot find any model weights|No model weights|no file named .*safetensors",
        "the folder of {model} holds no weights: copy or download them again",
    ),
    (
        r"SafetensorError|header too large|MetadataIncompleteBuffer|size mismatch",
        "the weights of {model} are damaged or don't fit its config.json: copy or download them again",
    ),
    (
        r"not supported for now|has no vLLM implementation|architectures.*not supported|does not recognize this architecture",
        "this vLLM doesn't know the architecture of {model}: use engine: transformers, or a newer vLLM",
    ),
    (
        r"Unsupported CPU attention configuration",
        "this vLLM has no attention on a CPU for the head size of {model}: use engine: transformers, or a GPU",
    ),
    (r"[Aa]ddress already in use", "its port was taken meanwhile: resume the run"),
)
_LIBRARY = re.compile(r"^.*?(?:ERROR [\d: -]+\[[^\]]*\]\s*|\(\w+ pid=\d+\)\s*)+")
_RAISED = re.compile(r"\b\w*(?:Error|Exception)\b: ")
_ECHO = re.compile(r"EngineDeadError|Worker failed with error|Engine core initialization failed|(See|check the) stack")


def explained(log: str, code: int, model: str) -> str:
    """`code` is the exit status, as a shell has it (128 + n for signal n)."""
    for pattern, sentence in _CAUSES:
        if found := re.search(pattern, log):
            return f"{sentence.format(model=model)}; it said: {_line(log, found.start())}"
    if code in (132, -4):
        return "the processor lacks an instruction (SIGILL): set dtype: float32"
    if code in (137, -9):
        return "it was killed, as the kernel does when memory runs out: use a smaller model or lower max_model_len, then resume"
    errors = [found.end() for found in _RAISED.finditer(log) if not _ECHO.search(_line(log, found.end()))]
    said = f"it said: {_line(log, errors[-1])}" if errors else "its log says nothing of why"
    return f"exit status {code}; {said}; see the log, then resume the run"


def _line(log: str, at: int) -> str:
    start, end = log.rfind("\n", 0, at) + 1, log.find("\n", at)
    line = _LIBRARY.sub("", log[start : end if end >= 0 else len(log)])
    return " ".join(line.split())[:240]
