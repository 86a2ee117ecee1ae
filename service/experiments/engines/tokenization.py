"""Converts prompts, completions and stop strings between text and token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from service.experiments.engines.base import EngineError

_TAIL = 6


@dataclass(slots=True)
class Tokenization:
    """`chat` applies the tokenizer's chat template to prompts as one user turn. Raises EngineError without a template."""

    tokenizer: Any
    name: str
    chat: bool = False
    _pieces: list[str] = field(default_factory=list)
    _enders: dict[str, frozenset[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.chat and not getattr(self.tokenizer, "chat_template", None):
            raise EngineError(f"{self.name} has no chat template: set chat: false, or use an instruct model")

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids with the tokenizer's leading special tokens; never empty. Raises EngineError."""
        if self.chat:
            turns = [{"role": "user", "content": prompt}]
            text = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = self.tokenizer(prompt)["input_ids"]
        if not ids and self.tokenizer.bos_token_id is None:
            raise EngineError(f"the prompt is empty and {self.name} has no start token: add a template")
        return [int(token) for token in ids] or [int(self.tokenizer.bos_token_id)]

    def completion_ids(self, completion: str) -> list[int]:
        """Token ids of a completion, tokenized separately from its prompt, as the other engines do."""
        return [int(token) for token in self.tokenizer(completion, add_special_tokens=False)["input_ids"]]

    def completion(self, prompt: Sequence[int], generated: Sequence[int], stops: Sequence[str]) -> str:
        """The text of the generated tokens up to the first stop string.

        Decoded after the prompt's last tokens, because some tokenizers drop a leading space."""
        tail = list(prompt[-_TAIL:])
        text = self._decode([*tail, *generated])[len(self._decode(tail)) :]
        ends = [at for at in (text.find(stop) for stop in stops) if at >= 0]
        return text[: min(ends)] if ends else text

    def stopped(self, prompt: Sequence[int], generated: Sequence[int], stops: Sequence[str]) -> bool:
        """Whether the last token completed a stop string."""
        if not any(generated[-1] in self._may_end(stop) for stop in stops):
            return False
        tail = list(prompt[-_TAIL:])
        text = self._decode([*tail, *generated])[len(self._decode(tail)) :]
        return any(stop in text for stop in stops)

    def _may_end(self, stop: str) -> frozenset[int]:
        """The tokens that can complete a stop string: those with its last character, or part of a non-ASCII one. A space can be
        between tokens and in none of them."""
        if stop not in self._enders:
            if not self._pieces:
                self._pieces = self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])
            last = stop[-1]
            self._enders[stop] = frozenset(
                token for token, piece in enumerate(self._pieces) if last == " " or last in piece or "\ufffd" in piece
            )
        return self._enders[stop]

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
