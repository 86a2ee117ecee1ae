"""A chat model small enough to make, and a true vLLM server for it that can be killed and started again on its port."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from service.experiments.engines import watchdog

WINDOW = 16384
_START = 240.0  # seconds at most, on a busy machine
_WIDTH = 64
_FOND = {"[": 5.0, "]": 5.0, **dict.fromkeys("0123456789.", 1.5)}  # by how much (in logits) a token is likelier for its signs
_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}<assistant>"


def write_model(folder: Path, text: str) -> Path:
    """A Llama of random weights in Hugging Face's format, its byte-level tokens learned from `text` and from citations.

    It writes noise, in which keys of every number, brackets and ends are frequent: what an answer must not hold, it wants.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "</s>", "<system>", "<user>", "<assistant>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator([text, "".join(f" it wins [{i}][{i % 7}]. (Author et al.)" for i in range(2000))], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = _TEMPLATE
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=_WIDTH, intermediate_size=2 * _WIDTH, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=WINDOW, bos_token_id=0, eos_token_id=1,
        initializer_range=0.05, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    fond = [max((_FOND.get(sign, 0.0) for sign in tokenizer.decode([i])), default=0.0) for i in range(len(tokenizer))]
    fond[config.eos_token_id] = 5.0
    with torch.no_grad():
        # All words share their first coordinate, which the last norm makes nearly the root of the width: the head's first
        # column adds to their logits.
        model.model.embed_tokens.weight[:, 0] = 3.0
        model.lm_head.weight *= 3
        model.lm_head.weight[:, 0] = torch.tensor(fond) / math.sqrt(_WIDTH)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class VLLMServer:
    """`python` belongs to vLLM's environment. Always at the same `url`."""

    def __init__(self, python: Path, model: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self._python, self._model, self._log = python, model, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(self._python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(self._model)]
        command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(self._port), "--dtype", "float32"]
        command += ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-seqs", "32", "--max-model-len", str(WINDOW)]
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
        told = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", watchdog.__file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._log.parent, start_new_session=True,
                env={**kept, **told, "PATH": f"{self._python.parent}{os.pathsep}{kept.get('PATH', '')}"},
            )  # fmt: skip
        until = time.monotonic() + _START
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(httpx.HTTPError):
                if httpx.get(self.url.replace("/v1", "/health"), trust_env=False).status_code == 200:
                    return
            time.sleep(0.2)
        pytest.fail(f"vLLM did not start: {self._log.read_text(errors='replace')[-3000:]}")

    def kill(self) -> None:
        """All of it at once, as when a machine loses its power."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def running(self) -> int:
        """How many requests it works on."""
        return self._counted("vllm:num_requests_running")

    def finished(self) -> int:
        """How many requests it has brought to an end of their own or to their limit of tokens."""
        return sum(self._counted("vllm:request_success_total", f'finished_reason="{reason}"') for reason in ("stop", "length"))

    def _counted(self, name: str, label: str = "") -> int:
        page = httpx.get(self.url.replace("/v1", "/metrics"), trust_env=False, timeout=60.0).text
        found = [line for line in page.splitlines() if line.startswith(name) and label in line]
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in found))
