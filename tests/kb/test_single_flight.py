"""Values are computed once, outside the lock, while others that want another value go on."""

from __future__ import annotations

import threading

import pytest

from kb.single_flight import SingleFlight


def test_a_value_is_computed_once_and_others_wait_for_it_only() -> None:
    cache: SingleFlight[str, int] = SingleFlight(2)
    begun, go_on, computed = threading.Event(), threading.Event(), list[str]()

    def slow() -> int:
        computed.append("slow")
        begun.set()
        assert go_on.wait(60)
        return 1

    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(cache.get("slow", slow))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    assert cache.get("quick", lambda: 2) == 2 and not results
    go_on.set()
    for thread in threads:
        thread.join()
    assert results == [1] * 5 and computed == ["slow"]


def test_whoever_waited_for_a_failure_computes_by_itself() -> None:
    cache: SingleFlight[str, int] = SingleFlight()
    begun, go_on, results = threading.Event(), threading.Event(), list[int]()

    def fails() -> int:
        begun.set()
        assert go_on.wait(60)
        raise ValueError("a fault")

    def first() -> None:
        with pytest.raises(ValueError):
            cache.get("key", fails)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert begun.wait(60)
    threads.append(threading.Thread(target=lambda: results.append(cache.get("key", lambda: 7))))
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert results == [7]


def test_the_values_used_last_are_kept() -> None:
    cache: SingleFlight[int, int] = SingleFlight(2)
    made: list[int] = []

    def make(key: int) -> int:
        def compute() -> int:
            made.append(key)
            return key

        return cache.get(key, compute)

    for key in (1, 2, 1, 3, 1, 2):
        assert make(key) == key
    assert made == [1, 2, 3, 2]
