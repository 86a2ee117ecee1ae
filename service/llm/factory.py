"""Opens the language model that the settings or options name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kb.notes import PasskbError

if TYPE_CHECKING:
    from service.config import Config
    from service.llm.client import Model


def open_model(config: Config, llm: str = "", name: str = "") -> Model | None:
    """The model, or None if none is configured. `llm`: URL or PROVIDER/NAME, default from `config`; `name`: of its models.

    The configured key is sent to the configured server only, or to `llm` if none is configured.
    Raises PasskbError for an invalid URL or a missing package.
    """
    llm = llm or config.llm or config.llm_url
    if not llm:
        if name:
            raise PasskbError("--model needs a server: add --llm URL or set PASSKB_LLM_URL")
        return None
    configured = {server.rstrip("/") for server in (config.llm, config.llm_url) if server}
    is_configured = not configured or llm.rstrip("/") in configured
    key = config.llm_api_key if is_configured else ""
    if "://" in llm or "/" not in llm:
        from service.llm.client import LanguageModel

        return LanguageModel(llm, name or config.llm_model, key)
    from service.llm.integration import IntegrationModel

    return IntegrationModel(llm, config.llm_url if is_configured or llm.startswith("openai-like/") else "", key)
