"""The in-process engine: PyTorch and transformers, for machines without vLLM.

Its decoding loop prefills a problem's prompt once for all attempts, removes finished rows from the batch, and can stop between
any two tokens. Each attempt has its own counter-based generator (Philox, keyed by `attempt_seed`) and uses one number per token
to invert the cumulative distribution, so its completion does not depend on its batch, except for rounding differences between
batch shapes, devices and versions of PyTorch.

The model's generation_config.json only supplies the end tokens; temperature and top-p come from the spec.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.cache_utils import DynamicCache, DynamicLayer

from service.experiments.engines.base import CLOSED, EngineError, Request, Settings
from service.experiments.engines.batching import Job, MemoryUse, Row, Workers, batch_size
from service.experiments.engines.memory import GB, free_memory, weights_bytes
from service.experiments.engines.stream import Channel, Stream, attempt_seed
from service.experiments.engines.tokenization import Tokenization
from service.experiments.spec import ModelSpec
from service.experiments.types import Completion

_WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
_ROWS = {"cpu": 2048, "cuda": 1024}
_STEP = 4e10  # parameters × rows of a decoding step on a CPU, about a second, which bounds the time to stop
_BLOCK = 32  # tokens by which caches and blocks of random numbers grow
_MAX_LOGITS = 2**26  # at a time while scoring
_REMEDY = "use a smaller model, a machine with more memory, or dtype: bfloat16"


class TransformersEngine:
    """The model in the folder or cached hub repository `where`. Raises EngineError when it can't be loaded or doesn't fit.

    `rows` 0 chooses a batch size for the model and the machine, at most 2,048; it shrinks when memory is short."""

    name = "transformers"

    def __init__(self, spec: ModelSpec, where: str, *, rows: int = 0) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model, tokenizer = _load(spec, where, self._device)
        self._accepts = set(inspect.signature(self._model.forward).parameters)
        self.texts = Tokenization(tokenizer, spec.model, spec.chat)
        self.ends = torch.tensor(sorted(_end_tokens(self._model, tokenizer)), device=self._device)
        config = self._model.config.get_text_config()
        self._context = _context(spec, config)
        self._vocabulary = int(config.vocab_size)
        # Logits, probabilities, their running sum, and a copy, in float32.
        self._memory_use = MemoryUse(_cache_bytes(config, self._model.dtype), 16 * self._vocabulary)
        parameters = sum(parameter.numel() for parameter in self._model.parameters())
        self._tokens_per_second = _STEP / parameters if self._device.type == "cpu" else float(_MAX_LOGITS)  # estimate
        default = int(max(8, self._tokens_per_second)) if self._device.type == "cpu" else _ROWS["cuda"]
        self.rows = self.most_per_request = rows or min(_ROWS[self._device.type], default)
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.device = _device_name(self._device)
        self._lock, self._workers = threading.Lock(), Workers(self._draw)
        self.effective: Mapping[str, Any] = {
            "model": spec.model,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "max_model_len": self._context,
            "parameters": parameters,
            "chat": spec.chat,
            "tokens": "counted",
        }

    def sample(self, requests: Iterable[Request], settings: Settings) -> Stream:
        def submit(more: Sequence[Request], channel: Channel) -> None:
            self._workers.add(channel, [self._job(request, settings, channel) for request in more])

        return Stream(requests, 2 * self.rows, submit, self._workers.leave)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        """Prompt and completion are tokenized separately; the end token does not count."""
        split = [(self.texts.prompt_ids(prompt), self.texts.completion_ids(text)) for prompt, text in pairs]
        for before, after in split:
            if len(before) + len(after) > self._context:
                size = f"a prompt with its completion has {len(before) + len(after)} tokens"
                raise EngineError(f"{size}, more than the model's context of {self._context}: remove perplexity")
        out: list[tuple[float, int]] = [(0.0, 0)] * len(pairs)
        order = sorted((i for i in range(len(pairs)) if split[i][1]), key=lambda i: -sum(map(len, split[i])))
        while order:
            width = sum(map(len, split[order[0]]))
            count = max(1, min(_MAX_LOGITS // (width * self._vocabulary), int(self._tokens_per_second / width)))
            batch, order = order[:count], order[count:]
            with self._lock, _memory(f"scoring {len(batch)} texts of {width} tokens"):
                for at, value in zip(batch, self._score([split[i] for i in batch]), strict=True):
                    out[at] = value, len(split[at][1])
        return out

    def close(self) -> None:
        self._workers.close()
        with self._lock:
            self._model = None
        _release(self._device)

    def _job(self, request: Request, settings: Settings, channel: Channel) -> Job:
        ids = self.texts.prompt_ids(request.prompt)
        if len(ids) + settings.max_tokens > self._context:
            what = f"problem {request.problem.id} ({len(ids)} tokens) with max_tokens {settings.max_tokens}"
            raise EngineError(f"{what} doesn't fit the model's context of {self._context}: lower sampling.max_tokens")
        return Job(request, settings, channel, ids)

    def _draw(self, rows: list[Row], stop: threading.Event) -> list[Row]:
        """Completes some of the rows and returns the rest; halves the batch when memory runs out."""
        rows = sorted(rows, key=lambda row: len(row.job.ids))
        while True:
            batch = rows[: batch_size(rows, self.rows, _free(self._device), self._memory_use)]
            try:
                with self._lock:
                    if not stop.is_set():
                        _Batch(self, self._model, batch).run(stop)
                return rows[len(batch) :]
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
            if len(batch) == 1:
                raise EngineError(f"out of memory with one attempt in flight: lower sampling.max_tokens, {_REMEDY}")
            self.rows = len(batch) // 2
            _release(self._device)

    def forward(self, model: Any, ids: torch.Tensor, mask: torch.Tensor | None, cache: Any) -> torch.Tensor:
        """Logits after the last token of each row: (rows, vocabulary), float32."""
        more: dict[str, Any] = {}
        if mask is not None:
            more["attention_mask"] = mask
            if "position_ids" in self._accepts:
                more["position_ids"] = (mask.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._accepts:
            more["logits_to_keep"] = 1
        out = model(input_ids=ids, past_key_values=cache, use_cache=True, **more)
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    @torch.inference_mode()
    def _score(self, batch: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        if self._workers.closed:
            raise EngineError(CLOSED)
        width = max(len(before) + len(after) for before, after in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long, device=self._device)
        mask, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for row, (before, after) in enumerate(batch):
            end = len(before) + len(after)
            ids[row, :end] = torch.tensor([*before, *after])
            mask[row, :end] = 1
            scored[row, len(before) : end] = True
        logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        surprise = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        return [-float(value) for value in (surprise.double() * scored[:, 1:]).sum(-1)]


class _Layer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer with spare capacity, so that a token doesn't copy the cache."""

    keys: torch.Tensor
    values: torch.Tensor
    is_initialized: bool
    _room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        had, now = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if self._room is None or self._room[0].shape[2] < now:
            self._room = _grown(self.keys, now + _BLOCK), _grown(self.values, now + _BLOCK)
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, had:now] = states
        self.keys, self.values = (room[:, :, :now] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = None


class _Batch:
    """Attempts that are decoded together. `at` are the indices in `rows` of those still in the batch."""

    def __init__(self, engine: TransformersEngine, model: Any, rows: Sequence[Row]) -> None:
        if model is None:
            raise EngineError(CLOSED)
        self.engine, self.model, self.rows = engine, model, rows
        self.settings = rows[0].job.settings
        self.at = np.arange(len(rows))
        self.alive = np.ones(len(rows), dtype=bool)
        self.stops = any(row.job.request.problem.stop for row in rows)
        self.tokens = np.zeros((len(rows), _BLOCK), dtype=np.int32)
        self.logprobs = np.zeros(len(rows))
        seeds = [attempt_seed(row.job.request, row.index) for row in rows]
        self.generators = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]

    @torch.inference_mode()
    def run(self, stop: threading.Event) -> None:
        logits, mask, cache = self._prefill()
        for step in range(self.settings.max_tokens):
            if stop.is_set():
                return
            chosen = self._choose(logits, step)
            self._record(chosen, step)
            if not self.alive.any():
                return
            keep = self.alive[self.at]
            if keep.sum() <= 0.8 * len(keep):
                index = torch.from_numpy(np.flatnonzero(keep)).to(chosen.device)
                cache.batch_select_indices(index)
                chosen, self.at = chosen[index], self.at[keep]
                mask = None if mask is None else mask[index]
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = self.engine.forward(self.model, chosen[:, None], mask, cache)

    def _prefill(self) -> tuple[torch.Tensor, torch.Tensor | None, Any]:
        """Prefills each distinct prompt once, then expands to one row per attempt."""
        place: dict[tuple[int, ...], int] = {}
        each = [place.setdefault(tuple(row.job.ids), len(place)) for row in self.rows]
        width = max(map(len, place))
        device = self.engine.ends.device
        ids = torch.tensor([[0] * (width - len(prompt)) + [*prompt] for prompt in place], device=device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in place], device=device)
        cache = DynamicCache(config=self.model.config)
        new: Any = _Layer
        cache.layers = [new() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        even = min(map(len, place)) == width
        logits = self.engine.forward(self.model, ids, None if even else mask, cache)
        index = torch.tensor(each, device=device)
        cache.batch_select_indices(index)
        return logits[index], None if even else mask[index], cache

    def _choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        if self.settings.temperature == 0:
            return logits.argmax(-1)
        if step % _BLOCK == 0:
            self.uniform = np.zeros((len(self.rows), _BLOCK), dtype=np.float32)
            for row in self.at[self.alive[self.at]]:
                self.uniform[row] = self.generators[row].random(_BLOCK, dtype=np.float32)
        uniform = torch.from_numpy(self.uniform[self.at, step % _BLOCK]).to(logits.device)[:, None]
        chosen, logprob = sample_token(logits, uniform, self.settings.temperature, self.settings.top_p)
        if self.settings.logprobs:
            alive = self.alive[self.at]
            self.logprobs[self.at[alive]] += logprob.double().cpu().numpy()[alive]
        return chosen

    def _record(self, chosen: torch.Tensor, step: int) -> None:
        """Stores the tokens of a step and finishes the rows that end."""
        if step >= self.tokens.shape[1]:
            self.tokens = np.pad(self.tokens, ((0, 0), (0, self.tokens.shape[1])))
        self.tokens[self.at, step] = chosen.cpu().numpy()
        ended = torch.isin(chosen, self.engine.ends).cpu().numpy()
        last = step + 1 == self.settings.max_tokens
        alive = self.alive[self.at]
        for place in np.flatnonzero(alive if last or self.stops else alive & ended):
            at = int(self.at[place])
            generated = self.tokens[at, : step + 1 - int(ended[place])].tolist()
            job = self.rows[at].job
            stopped = bool(ended[place]) or self.engine.texts.stopped(job.ids, generated, job.request.problem.stop)
            if stopped or last:
                self.alive[at] = False
                self._finish(at, generated, step + 1, stopped)

    def _finish(self, at: int, generated: list[int], tokens: int, stopped: bool) -> None:
        job, index = self.rows[at].job, self.rows[at].index
        completion = Completion(
            problem_id=job.request.problem.id,
            attempt=job.request.first + index,
            text=self.engine.texts.completion(job.ids, generated, job.request.problem.stop),
            tokens=tokens,
            finish="stop" if stopped else "length",
            logprob=float(self.logprobs[at]) if self.settings.logprobs else None,
        )
        job.finish(index, completion)


def sample_token(
    logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token per row by inverting the cumulative distribution, and its log-probability under that distribution.

    logits (rows, vocabulary); uniform (rows, 1) in [0, 1). Top-p keeps the smallest set of most likely tokens whose
    probabilities add up to at least `top_p` (Holtzman et al. 2020)."""
    probabilities = torch.softmax(logits / temperature, dim=-1)
    if top_p < 1:
        probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
        beyond = probabilities.cumsum(-1) - probabilities >= top_p
        beyond[:, 0] = False
        probabilities = probabilities.masked_fill(beyond, 0)
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:]
    place = torch.searchsorted(cumulative, uniform * total, right=True)
    # Rounding can make u * total equal to total: then use the last token with a probability above zero.
    place = place.minimum((cumulative < total).sum(-1, keepdim=True))
    logprob = (probabilities.gather(1, place) / total).log().squeeze(1)
    chosen = place if top_p == 1 else order.gather(1, place)
    return chosen.squeeze(1), logprob


def _load(spec: ModelSpec, where: str, device: torch.device) -> tuple[Any, Any]:
    """The model, ready for inference on the device, and its tokenizer. Raises EngineError."""
    dtype = ("float32" if device.type == "cpu" else "auto") if spec.dtype == "auto" else spec.dtype
    if dtype not in ("auto", *_WIDTHS):
        raise EngineError(f"unknown dtype {spec.dtype!r}: use auto, {', '.join(_WIDTHS)}")
    needed = weights_bytes(Path(where), _WIDTHS.get(dtype, 0)) if Path(where).is_dir() else 0
    if (free := _free(device)) < needed:
        shortage = f"{spec.model} needs {needed / GB:.1f} GB as {dtype}, but {free / GB:.1f} GB are free on the {device.type}"
        raise EngineError(f"{shortage}: stop other programs, {_REMEDY}")
    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(where)
        model, info = library.AutoModelForCausalLM.from_pretrained(where, dtype=dtype, output_loading_info=True)
        if info["missing_keys"]:
            missing = ", ".join(sorted(info["missing_keys"])[:3])
            raise EngineError(f"{spec.model} lacks weights of a language model ({missing}, ...): use a causal language model")
        return model.to(device).eval(), tokenizer
    except EngineError:
        raise
    except Exception as error:
        if _out_of_memory(error):
            raise EngineError(f"{spec.model} doesn't fit into memory: {_REMEDY}") from error
        reason = " ".join(str(error).split())[:300]
        raise EngineError(f"{spec.model} can't be loaded ({reason}): repair the folder, or use another model") from error


def _context(spec: ModelSpec, config: Any) -> int:
    longest = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
    if spec.max_model_len > longest:
        raise EngineError(f"max_model_len {spec.max_model_len} is more than the {longest} tokens of {spec.model}: lower it")
    return spec.max_model_len or longest


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """The end tokens of the tokenizer and of the model's generation_config.json."""
    configured = model.generation_config.eos_token_id
    ends = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id}
    return {int(end) for end in ends if end is not None}


def _cache_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of one token in all layers."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * dtype.itemsize)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def _free(device: torch.device) -> int:
    if device.type == "cpu":
        return free_memory()
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + unused)


def _release(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _grown(states: torch.Tensor, length: int) -> torch.Tensor:
    """A copy with capacity for `length` tokens."""
    room = states.new_empty(*states.shape[:2], length, states.shape[3])
    room[:, :, : states.shape[2]] = states
    return room


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


@contextmanager
def _memory(what: str) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise EngineError(f"out of memory while {what}: {_REMEDY}, or remove perplexity") from error
