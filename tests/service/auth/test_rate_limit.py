"""Rate limits for wrong passwords, per address and per account."""

from __future__ import annotations

import logging

import pytest

from service.auth.rate_limit import FREE_ATTEMPTS, MAX_WAIT, SignInLimiter


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> SignInLimiter:
    return SignInLimiter(clock, capacity=100)


def guess(limiter: SignInLimiter, address: str, count: int, start: int = 0) -> list[float]:
    return [limiter.failed(address, f"ada:{number}".encode(), "ada", "test") for number in range(start, start + count)]


def test_the_wait_doubles_up_to_five_minutes(limiter: SignInLimiter, clock: Clock) -> None:
    assert guess(limiter, "10.0.0.1", FREE_ATTEMPTS + 3) == [0.0] * (FREE_ATTEMPTS - 1) + [1.0, 2.0, 4.0, 8.0]
    assert limiter.wait("10.0.0.1", b"ada:right") == 8.0
    clock.now += 8
    assert limiter.wait("10.0.0.1", b"ada:right") == 0.0
    assert guess(limiter, "10.0.0.1", 20, 100)[-1] == MAX_WAIT


def test_other_addresses_do_not_wait(limiter: SignInLimiter) -> None:
    guess(limiter, "10.0.0.1", 50)
    assert limiter.wait("10.0.0.2", b"ada:right") == 0.0
    assert 0 < limiter.delay("ada") <= 5.0 and limiter.delay("grace") == 0.0


def test_guesses_from_many_addresses_delay_the_account(limiter: SignInLimiter, clock: Clock) -> None:
    for number in range(60):
        guess(limiter, f"10.0.1.{number}", 1)
    assert limiter.delay("ada") == 5.0
    clock.now += 3_601
    assert limiter.delay("ada") == 0.0


def test_a_repeated_wrong_password_counts_once(limiter: SignInLimiter) -> None:
    assert [limiter.failed("10.0.0.1", b"ada:old", "ada", "MCP") for _ in range(200)] == [0.0] * 200
    assert limiter.wait("10.0.0.1", b"ada:right") == 0.0 and limiter.delay("ada") == 0.0


def test_failures_are_cleared_by_sign_in_and_after_an_hour(limiter: SignInLimiter, clock: Clock) -> None:
    guess(limiter, "10.0.0.1", FREE_ATTEMPTS)
    limiter.succeeded("10.0.0.1")
    assert guess(limiter, "10.0.0.1", 1, 50) == [0.0]
    guess(limiter, "10.0.0.1", 20, 100)
    clock.now += 3_601
    assert guess(limiter, "10.0.0.1", 1, 200) == [0.0]


@pytest.mark.parametrize(
    ("first", "second"), [("2001:db8::1", "2001:db8::ffff:2"), ("::ffff:10.0.0.9", "10.0.0.9"), ("unix socket", "unix socket")]
)
def test_one_subscriber_is_one_address(limiter: SignInLimiter, first: str, second: str) -> None:
    guess(limiter, first, FREE_ATTEMPTS)
    assert limiter.wait(second, b"ada:right") > 0


def test_memory_is_bounded(limiter: SignInLimiter) -> None:
    for number in range(5_000):
        guess(limiter, f"10.{number >> 8}.{number & 255}.1", 1)
    assert len(limiter) == 100


def test_the_log_does_not_contain_the_password(limiter: SignInLimiter, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        limiter.failed("10.0.0.1", b"ada:hunter2", "ada", "REST")
        limiter.failed("10.0.0.1", b"hunter2:", None, "MCP")
    assert "wrong password for 'ada' from 10.0.0.1 (REST)" in caplog.text and "unknown user" in caplog.text
    assert "hunter2" not in caplog.text
