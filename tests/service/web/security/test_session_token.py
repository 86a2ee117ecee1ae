"""Tokens are valid only for their session, lifetime and process."""

from __future__ import annotations

import pytest

from service.web.security.session_token import Refusal, SessionTokens


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_valid_for_its_session_and_lifetime() -> None:
    clock = Clock()
    tokens = SessionTokens(clock, 60)
    mine, other = tokens.new_session(), tokens.new_session()
    assert tokens.session(tokens.cookie(mine)) == mine != other
    token = tokens.token(mine)
    assert tokens.refusal(mine, token) is None
    assert tokens.refusal(other, token) is Refusal.FORGED
    assert tokens.refusal(None, token) is Refusal.NO_SESSION
    assert tokens.refusal(mine, None) is tokens.refusal(mine, "") is Refusal.MISSING
    clock.now += 61
    assert tokens.refusal(mine, token) is Refusal.EXPIRED
    later = f"{int(clock.now) + 60}.{token.partition('.')[2]}"
    assert tokens.refusal(mine, later) is Refusal.FORGED


@pytest.mark.parametrize("cookie", [None, "", ".", "a", "a.b", "ü.ü", "x" * 10_000])
def test_an_invalid_cookie_is_no_session(cookie: str | None) -> None:
    tokens = SessionTokens()
    assert tokens.session(cookie) is None
    assert tokens.refusal(tokens.new_session(), cookie) in (Refusal.MISSING, Refusal.FORGED)


def test_another_process_has_another_key() -> None:
    before, now = SessionTokens(), SessionTokens()
    session = before.new_session()
    assert now.session(before.cookie(session)) is None
    assert now.refusal(session, before.token(session)) is Refusal.FORGED


def test_cookies_and_tokens_are_not_interchangeable() -> None:
    tokens = SessionTokens()
    session = tokens.new_session()
    assert tokens.refusal(session, tokens.cookie(session)) is Refusal.FORGED
    assert tokens.session(tokens.token(session)) is None
