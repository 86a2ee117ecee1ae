"""Words of notes and questions are made alike: possessives, hyphens, code names, accents, scripts without spaces."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.notes import Chunk, Note
from kb.store.fulltext import content_words, index_text, stems, tokenize
from kb.store.migration import renew_full_text
from kb.store.queries import Store

_LETTERS = st.sampled_from("abcXYZéüß0189強化学習とはのカタ中文字한국어กินข้าว's’-@^./ ")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("home") / "kb.sqlite")


def put(store: Store, text: str, title: str = "title") -> None:
    note = Note("n", title, text=text)
    with store.writing() as transaction:
        transaction.put_note(note, [Chunk("n@0", "n", 0, len(text), "")])


@settings(deadline=None, max_examples=300)
@given(text=st.text(_LETTERS, min_size=1, max_size=40))
def test_every_word_of_a_note_asked_alone_finds_the_note(store: Store, text: str) -> None:
    put(store, text)
    for word in tokenize(text):
        assert store.lexical(word, 5), f"{word!r} of {text!r}"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Emmy Noether was born in Erlangen.", "What is Noether's birthplace?"),
        ("The teachers met.", "the teachers’ meeting"),
        ("We use group-relative advantages.", "group relative"),
        ("pass@k rises with k.", "What is pass@k?"),
        ("Gödel proved it.", "godel"),
        ("強化学習は報酬から学ぶ手法である。", "強化学習とは何ですか"),
        ("机器学习需要数据。", "什么是机器学习？"),
        ("기계 학습은 데이터가 필요하다.", "학습이 무엇인가요"),
        ("ข้าวผัดเป็นอาหารไทย", "ข้าวผัดคืออะไร"),
    ],
)
def test_a_question_finds_the_note_that_answers_it(store: Store, text: str, question: str) -> None:
    put(store, text)
    assert store.lexical(question, 5)


def test_words_of_a_question() -> None:
    assert content_words("What is Noether’s theorem, and the teachers' view?") == ["noether", "theorem", "teachers", "view"]
    assert content_words("強化学習とは何ですか") == ["強化", "化学", "学習", "何"]
    assert content_words("什么是机器学习？") == ["机器", "器学", "学习"]
    assert content_words("とは") == ["とは"]  # nothing but grammar: all of it
    assert stems("Noether's 学習") == {"noether", "学習"}
    assert index_text("k個 of 学習") == "k 個  of  学  習 "


def test_a_home_of_an_earlier_version_is_found_by_its_characters(tmp_path: Path) -> None:
    store = Store(tmp_path / "kb.sqlite")
    put(store, "強化学習の手法", "plain")
    with store.database.writing() as connection:
        connection.execute("UPDATE words SET text = '強化学習の手法'")
        connection.execute("DELETE FROM meta WHERE key = 'fulltext'")
    assert not store.lexical("学習", 5)
    store.close()
    again = Store(tmp_path / "kb.sqlite")
    assert again.lexical("学習", 5) and again.meta("fulltext") == "2"
    with again.database.writing() as connection:
        renew_full_text(connection)
    assert again.lexical("学習", 5)
    again.close()


def test_a_quote_in_a_word_is_no_syntax(store: Store) -> None:
    put(store, "one two")
    for question in ('"', 'one" OR "two', "one*", "NEAR(one two)", "title:one", "\0"):
        try:
            store.lexical(question, 5)
        except sqlite3.Error as error:
            pytest.fail(f"{question!r}: {error}")
