"""The model of an organism: a small Llama, and a tokenizer with one token per number, both in Hugging Face format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from service.experiments.datasets.countdown import LARGEST_VALUE

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
SIGNS = ("+", "-", "*", "/", "=", ",", "->", ":")
ROWS = 128
CONTEXT = 128


@dataclass(frozen=True, slots=True)
class Size:
    """Layers, width, attention heads and width of the feed-forward layer of a Llama."""

    layers: int
    width: int
    heads: int
    inner: int


SIZES = {
    "tiny": Size(1, 64, 2, 128),
    "small": Size(3, 128, 4, 384),
    "medium": Size(10, 512, 8, 1_536),
    "large": Size(16, 1_024, 16, 3_072),
}


def vocabulary() -> dict[str, int]:
    """Token -> id: special tokens, operators, the numbers 0..99, and unused tokens up to 128, so that every id decodes."""
    words = [PAD, EOS, UNKNOWN, *SIGNS, *map(str, range(LARGEST_VALUE + 1))]
    unused = [f"<unused{at}>" for at in range(ROWS - len(words))]
    return {word: at for at, word in enumerate([*words, *unused])}


def new_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that splits at spaces and operators, adds no special tokens, and decodes with single spaces."""
    words = vocabulary()
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        padding_side="left",
    )


def new_model(size: str, seed: int) -> LlamaForCausalLM:
    """A model with random weights from `seed`, in fp32 on the CPU."""
    shape, words = SIZES[size], vocabulary()
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.width // shape.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=words[EOS],
        pad_token_id=words[PAD],
    )
    torch.manual_seed(seed)
    return _with_plain_attention(LlamaForCausalLM(config))


def load_model(folder: Path) -> LlamaForCausalLM:
    """Loads a model that `save` wrote, in fp32 on the CPU."""
    return _with_plain_attention(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True))


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Writes weights, configuration and tokenizer into the folder."""
    model.save_pretrained(folder)
    new_tokenizer().save_pretrained(folder)
    # transformers 4 does not know the class name that transformers 5 writes.
    settings = folder / "tokenizer_config.json"
    entries = json.loads(settings.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def ids_of(texts: Sequence[str]) -> torch.Tensor:
    """Token ids, shape (texts, tokens), of texts of equal length with single spaces."""
    words = vocabulary()
    return torch.tensor([[words[word] for word in text.split(" ")] for text in texts])


def texts_of(ids: torch.Tensor) -> list[str]:
    """The texts of rows of token ids, each up to its first end token."""
    words = list(vocabulary())
    end = words.index(EOS)
    rows: list[list[int]] = ids.tolist()
    return [" ".join(words[at] for at in (row[: row.index(end)] if end in row else row)) for row in rows]


def _with_plain_attention(model: LlamaForCausalLM) -> LlamaForCausalLM:
    # For rows of 25 tokens PyTorch's fused attention is slower on a CPU.
    model.set_attn_implementation("eager")
    return model
