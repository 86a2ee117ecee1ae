"""Accounts: parsing of password files, and warnings about their permissions."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb.notes import PasskbError
from service.auth.accounts import Accounts, parse_account, read_accounts


def test_only_the_whole_account_matches() -> None:
    accounts = Accounts([("ada", "a:b"), ("jürgen", "päss")])
    assert accounts.user(b"ada:a:b") == "ada" and accounts.user("jürgen:päss".encode()) == "jürgen"
    for wrong in ("ada:a", "ada:a:b ", "ada", "", "jürgen:a:b", "päss"):
        assert accounts.user(wrong.encode()) is None
    assert "ada" in accounts and "a:b" not in repr(vars(accounts))


@pytest.mark.parametrize("text", ["", "ada", "ada:", ":secret", ":"])
def test_an_account_has_a_user_and_a_password(text: str) -> None:
    with pytest.raises(PasskbError, match="--auth must have the form USER:PASSWORD"):
        parse_account(text, "--auth")


def test_a_file_has_one_account_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "accounts"
    file.write_text("# who may come in\nada:one\r\n\ngrace:two:three\n", "utf-8")
    file.chmod(0o600)
    accounts = read_accounts(file)
    assert len(accounts) == 2 and accounts.user(b"ada:one") == "ada" and accounts.user(b"grace:two:three") == "grace"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_that_others_can_read_gives_a_warning(tmp_path: Path, mode: int, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "accounts"
    file.write_text("ada:one", "utf-8")
    file.chmod(mode)
    assert len(read_accounts(file)) == 1
    assert f"chmod 600 {file}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no account"), (b"# nobody\n", "has no account"), (b"ada:one\nbob\n", "line 2, must have the form"),
        (b"ada:one\nada:two\n", "lists a user twice"), (b"ada:\xff", "it is not UTF-8"), (b"a:b\n" * 20_000, "too large"),
    ],
)  # fmt: skip
def test_an_unusable_file_is_rejected_with_a_reason(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "accounts"
    file.write_bytes(content)
    with pytest.raises(PasskbError, match=words):
        read_accounts(file)
    with pytest.raises(PasskbError, match="No such file"):
        read_accounts(tmp_path / "missing")
