"""Models of llama-index integrations: found by name, streamed with our timeouts, with the remedy if the package is missing."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from kb.notes import PasskbError
from service.cli.main import main
from service.config import Config, read_config
from service.llm.client import Exhausted, Interrupted, LanguageModel, ModelError, Stopped, Timeouts
from service.llm.factory import open_model
from service.llm.integration import IntegrationModel
from tests.service.answering.scripted_server import Reply, said, serving

KEY = "sk-secret-4711"
QUICK = Timeouts(tries=1, backoff=0.01, first_output=0.5, between_outputs=0.4)
INTEGRATION = '''
import time
from typing import Any
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata

class Echo(CustomLLM):
    """Repeats its prompt, or does what its model name says."""
    model: str
    base_url: str = ""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=777, model_name=self.model)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=prompt)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any):
        if self.model == "broken":
            raise RuntimeError("the sk-secret-4711 is out of order")
        for i in range(100_000 if self.model == "endless" else 3):
            if i and self.model == "silent":
                time.sleep(1.5)
            yield CompletionResponse(text="", delta=f"word{i} ")
'''


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package llama-index-llms-echo."""
    folder = tmp_path / "site" / "llama_index" / "llms" / "echo"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(INTEGRATION, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "llama_index.llms.echo", raising=False)


def text_of(model: IntegrationModel, max_tokens: int = 50) -> str:
    return "".join(piece.text for piece in model.stream("Be short.", "Hello?", max_tokens=max_tokens))


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    for spec, package in (("ollama/llama3.2", "llama-index-llms-ollama"), ("anthropic/claude", "llama-index-llms-anthropic")):
        with pytest.raises(ModelError, match=rf"{spec} needs the package {package}: install it with `pip install {package}`"):
            IntegrationModel(spec)
    for spec in ("ollama/", "Some Thing/x", "localhost:8000/v1", "../x/y"):
        with pytest.raises(ModelError, match=r"use PROVIDER/NAME such as ollama/llama3\.2, or a URL"):
            IntegrationModel(spec)


def test_openai_like_streams_from_the_configured_server() -> None:
    with serving(said("Hello there.")) as server:
        model = IntegrationModel("openai-like/some/model", server.url, KEY, QUICK)
        assert (model.name, model.constrains, text_of(model)) == ("openai-like/some/model", False, "Hello there.")
    (asked,) = server.asked
    assert (asked["model"], asked["max_tokens"], asked["temperature"]) == ("some/model", 50, 0.0)
    assert server.keys == [f"Bearer {KEY}"] and [m["role"] for m in asked["messages"]] == ["system", "user"]
    with serving(Reply(status=401, error=f"Incorrect API key provided: {KEY}")) as server:
        with pytest.raises(ModelError, match="check the model, its server and its API key") as caught:
            text_of(IntegrationModel("openai-like/some/model", server.url, KEY, QUICK))
        assert KEY not in str(caught.value)
    with serving(said("Half a", finish="length")) as server, pytest.raises(Exhausted, match="limit of 50 tokens"):
        text_of(IntegrationModel("openai-like/some/model", server.url, KEY, QUICK))


def test_any_installed_integration_can_write(echo: None) -> None:
    model = IntegrationModel("echo/plain", timeouts=QUICK)
    assert text_of(model) == "word0 word1 word2 " and model.context == 777
    with pytest.raises(ModelError, match=r"echo/broken failed .RuntimeError: the … is out of order"):
        text_of(IntegrationModel("echo/broken", api_key=KEY, timeouts=QUICK))


def test_timeouts_limits_and_stopping_hold_for_integrations(echo: None) -> None:
    began = time.monotonic()
    with pytest.raises(Interrupted, match=r"echo/silent sent nothing for 0\.4 s"):
        text_of(IntegrationModel("echo/silent", timeouts=QUICK))
    with pytest.raises(Exhausted, match="does not stop writing"):
        text_of(IntegrationModel("echo/endless", timeouts=QUICK))
    pieces = IntegrationModel("echo/silent", timeouts=Timeouts()).stream("", "Hello?", max_tokens=9, stop=lambda: True)
    with pytest.raises(Stopped):
        list(pieces)
    assert time.monotonic() - began < 10


def test_the_settings_choose_the_model(echo: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSKB_LLM", "echo/plain")
    config = read_config(tmp_path)
    assert isinstance(model := open_model(config), IntegrationModel) and model.name == "echo/plain"
    assert isinstance(open_model(config, "http://127.0.0.1:9/v1", "other"), LanguageModel)
    assert isinstance(open_model(Config(llm="http://127.0.0.1:9/v1", llm_model="m")), LanguageModel)
    assert open_model(Config()) is None
    with pytest.raises(PasskbError, match="--model needs a server"):
        open_model(Config(), name="other")


def test_the_configured_key_goes_to_the_configured_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(said("Hi.")) as mine, serving(said("Hi.")) as other:
        for key, value in {"openai-like/m": "Bearer sk-own", "http": "Bearer none"}.items():
            monkeypatch.setenv("OPENAI_API_KEY", "sk-own")
            config = Config(llm_url=mine.url, llm_api_key=KEY)
            model = open_model(config, other.url if key == "http" else key, "m")
            assert model is not None
            list(model.stream("", "Hello?", max_tokens=9))
            assert (other if key == "http" else mine).keys[-1] == value


def test_a_command_says_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--home", str(tmp_path), "ask", "What is pass@k?", "--llm", "ollama/llama3.2", "--json"]
    assert main(command) == 1
    assert "pip install llama-index-llms-ollama" in json.loads(capsys.readouterr().out)["error"]
