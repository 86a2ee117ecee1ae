"""KnowledgeBase: the interface to a home, which keeps its store, vector index and graph consistent."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from kb.embedding import Embedder, MiniLM, Vectors
from kb.graph import Neighbourhood, NoteGraph, Step
from kb.index_sync import IndexSync
from kb.inferred_links import infer_links
from kb.mentions import NameIndex, without_qualifiers
from kb.notes import Hit, Link, LinkType, Note, NoteKind, Origin, PasskbError
from kb.search import Catalogue, Paths, Retriever
from kb.single_flight import SingleFlight
from kb.store.queries import Store, Transaction, passage, text_hash
from kb.vector_index import IndexFailure, VectorIndex

Progress = Callable[[str, int, int], None]
_EMBEDDING_BATCH = 256
_MAX_SENTENCE_VECTORS = 32_768  # 1.5 KiB each: the sentences that questions reach in a few thousand notes
_CACHED_GRAPHS = 4
_log = logging.getLogger("passkb")


@dataclass(frozen=True, slots=True)
class NoteView:
    """A note with its links, backlinks, inquiries and similar notes. `similar`: (note id, cosine), best first."""

    note: Note
    links: tuple[Link, ...]
    backlinks: tuple[Link, ...]
    similar: tuple[tuple[str, float], ...]
    inquiries: tuple[str, ...]


class KnowledgeBase:
    """A home folder: `kb.sqlite` and `chroma/`, both derived from notes. Thread-safe.

    Raises PasskbError when the home cannot be opened.
    """

    def __init__(self, home: Path, embedder: Embedder | None = None) -> None:
        self.home = home
        self.embedder: Embedder = embedder or MiniLM()
        self.store = Store(home / "kb.sqlite")
        self.index = VectorIndex(home / "chroma")
        self.index_sync = IndexSync(self.store, self.index, self.embedder)
        self._retriever: Retriever | None = None
        # Keys contain the store's generation. Values are computed within one `store.reading()`.
        self._catalogues: SingleFlight[int, Catalogue] = SingleFlight()
        self._exact_catalogues: SingleFlight[int, Catalogue] = SingleFlight()
        self._graphs: SingleFlight[tuple[int, frozenset[str]], NoteGraph] = SingleFlight(_CACHED_GRAPHS)
        self._mention_graphs: SingleFlight[tuple[int, frozenset[str]], NoteGraph] = SingleFlight(_CACHED_GRAPHS)
        self._names: SingleFlight[tuple[int, frozenset[str]], NameIndex] = SingleFlight(_CACHED_GRAPHS)
        self._walkable_graphs: SingleFlight[int, NoteGraph] = SingleFlight()
        self._means: SingleFlight[int, Vectors] = SingleFlight()
        self._lock = threading.Lock()  # of the two fields below; never held during slow work
        self._sentence_vectors: dict[str, Vectors] = {}
        self._warned: set[str] = set()

    def __enter__(self) -> KnowledgeBase:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            retriever, self._retriever = self._retriever, None
        if retriever is not None:
            retriever.close()
        self.index.close()
        self.store.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def search(
        self, query: str, limit: int = 10, *, widen: bool = True, exclude: Collection[str] = ()
    ) -> tuple[Vectors, list[Hit]]:
        """The question's vector, shape (size,), and the best chunks. `exclude`: kinds of notes to omit.

        Compares all vectors, after a warning with the reason, when the vector index cannot be used.
        """
        with self.reading():
            paths = Paths(self.graph_without(exclude), self._mention_graph(exclude)) if widen else None
            names = self._name_index(exclude)
            catalogue = self.catalogue
            if catalogue.vectors is None:
                problem = self.index_sync.problem()
                try:
                    if not problem:
                        return self._get_retriever().search(catalogue, paths, names, query, limit, exclude)
                except IndexFailure as error:
                    problem = str(error)
                self._warn(f"the vector index is not used: {problem}")
                catalogue = self._exact_catalogue_now()
            return self._get_retriever().search(catalogue, paths, names, query, limit, exclude)

    def _get_retriever(self) -> Retriever:
        with self._lock:
            if self._retriever is None:
                self._retriever = Retriever(self.store, self.index, self.embedder)
            return self._retriever

    def _warn(self, message: str) -> None:
        """Logs each message once."""
        with self._lock:
            is_new = message not in self._warned
            self._warned.add(message)
        if is_new:
            _log.warning("%s", message)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A consistent snapshot: reads within the block do not see later writes."""
        if not self.store.database.is_nested and self.catalogue.vectors is None:
            self.index_sync.catch_up()
        with self.store.reading():
            yield

    @property
    def catalogue(self) -> Catalogue:
        with self.store.reading():
            return self._catalogues.get(self.store.generation, lambda: Catalogue.load(self.store, self.embedder))

    def _exact_catalogue_now(self) -> Catalogue:
        with self.store.reading():
            return self._exact_catalogues.get(
                self.store.generation, lambda: Catalogue.load(self.store, self.embedder, exact=True)
            )

    @property
    def graph(self) -> NoteGraph:
        """All notes and links, including inferred links between disconnected groups. For navigation; searches ignore those."""
        with self.store.reading():
            return self._walkable_graphs.get(self.store.generation, self._walkable)

    def _walkable(self) -> NoteGraph:
        authored = self.graph_without(())
        return NoteGraph(authored.note_ids, [*authored.links, *self._inferred(authored)])

    def _inferred(self, graph: NoteGraph) -> list[Link]:
        catalogue = self.catalogue
        if catalogue.vectors is None:
            return []
        return infer_links(graph, catalogue.row_of, catalogue.note_ids, self._mean_vectors(catalogue))

    def _name_index(self, excluded_kinds: Collection[str]) -> NameIndex:
        """The titles and aliases of the notes of other kinds."""
        excluded = frozenset(excluded_kinds)

        def load() -> NameIndex:
            ids = {note_id for note_id, _, kind, _ in self.store.titles() if kind not in excluded}
            entries = [entry for entry in self.store.names() if entry[0] in ids]
            return NameIndex(without_qualifiers([(name, entry[0]) for entry in entries for name in (entry[3], *entry[4])]))

        with self.store.reading():
            return self._names.get((self.store.generation, excluded), load)

    def _mention_graph(self, excluded_kinds: Collection[str]) -> NoteGraph:
        """The notes of other kinds that name each other without a link."""

        def load() -> NoteGraph:
            authored = self.graph_without(excluded_kinds)
            linked = {frozenset((link.source, link.target)) for link in authored.links}
            pairs = [pair for pair in self.store.mentions() if frozenset(pair) not in linked]
            links = [Link(source, target, LinkType.MENTIONS, "", Origin.INFERRED) for source, target in pairs]
            return NoteGraph(authored.note_ids, links)

        with self.store.reading():
            return self._mention_graphs.get((self.store.generation, frozenset(excluded_kinds)), load)

    def graph_without(self, kinds: Collection[str]) -> NoteGraph:
        """The notes of other kinds and the authors' links among them."""
        excluded = frozenset(kinds)

        def load() -> NoteGraph:
            ids = [note_id for note_id, _, kind, _ in self.store.titles() if kind not in excluded]
            return NoteGraph(ids, self.store.links())

        with self.store.reading():
            return self._graphs.get((self.store.generation, excluded), load)

    def find(self, name: str) -> str:
        """The id of the note called `name`: its id, or a title or alias that only this note has.

        Raises PasskbError that lists the closest titles, or the candidates when several notes match.
        """
        name = name.encode("utf-8", "replace").decode()
        if self.store.notes([name]):
            return name
        ids = self.store.ids_by_name(name.strip())
        if len(ids) == 1:
            return ids[0]
        if ids:
            raise PasskbError(f"{len(ids)} notes are called {name!r}: use one of their ids: {', '.join(ids)}")
        near = self.suggest_titles(name, 3)
        hint = f"; did you mean {' or '.join(repr(title) for _, title in near)}?" if near else ""
        raise PasskbError(
            f"there is no note {name!r}{hint}"
            if near
            else f"there is no note {name!r}: find notes by their text with `passkb search`"
        )

    def suggest_titles(self, text: str, limit: int = 8) -> list[tuple[str, str]]:
        """(id, title) of notes whose title or an alias contains at least half of the words of `text`; for search as you
        type."""
        words = text.casefold().split()
        ranked = []
        for note_id, title, _, aliases in self.store.titles():
            names = [name.casefold() for name in (title, *aliases)]
            matches = max(sum(word in name for word in words) for name in names) if words else 0
            if matches:
                starts = any(name.startswith(words[0]) for name in names)
                ranked.append((-matches, not starts, len(title), note_id, title))
        least = -min((rank[0] for rank in ranked), default=0)
        return [(rank[3], rank[4]) for rank in sorted(ranked) if -rank[0] * 2 >= least][:limit]

    def view(self, note_id: str, similar: int = 8) -> NoteView:
        """A note with everything related to it. Raises PasskbError when it does not exist."""
        with self.reading():
            return self._view(note_id, similar)

    def _view(self, note_id: str, similar: int) -> NoteView:
        note = self.store.note(note_id)
        if note is None:
            raise PasskbError(f"there is no note {note_id!r}")
        inferred = [
            link for link in self.graph.links if link.origin is Origin.INFERRED and note_id in (link.source, link.target)
        ]
        backlinks = (*self.store.links(note_id, into=True), *(link for link in inferred if link.target == note_id))
        drawing = [link.source for link in backlinks if link.type is LinkType.DRAWS_ON]
        inquiries = [i for i, row in self.store.notes(drawing).items() if row.kind in (NoteKind.INQUIRY, NoteKind.STUB)]
        return NoteView(
            note,
            (*self.store.links(note_id), *(link for link in inferred if link.source == note_id)),
            backlinks,
            tuple(self.similar(note_id, similar)),
            tuple(sorted(inquiries)),
        )

    def similar(self, note_id: str, limit: int = 8) -> list[tuple[str, float]]:
        """(note id, cosine) of the notes with the most similar mean chunk vectors, best first; empty for a note without
        text."""
        catalogue = self.catalogue
        row = catalogue.row_of.get(note_id)
        if row is None or catalogue.vectors is None:
            return []
        means = self._mean_vectors(catalogue)
        nearness = means @ means[row]
        order = np.argsort(-nearness, kind="stable")[: limit + 1]
        return [(catalogue.note_ids[i], round(float(nearness[i]), 4)) for i in order if i != row][:limit]

    def _mean_vectors(self, catalogue: Catalogue) -> Vectors:
        return self._means.get(catalogue.generation, lambda: _means(catalogue))

    def neighbourhood(self, note_id: str, depth: int = 2, limit: int = 60) -> Neighbourhood:
        return self.graph.neighbourhood(note_id, depth, limit)

    def path(self, start: str, end: str) -> list[Step] | None:
        return self.graph.path(start, end)

    def sentence_vectors(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of short texts, shape (len(texts), size), cached in memory."""
        with self._lock:
            known = {text: vector for text in texts if (vector := self._sentence_vectors.get(text)) is not None}
        missing = list(dict.fromkeys(text for text in texts if text not in known))
        if missing:
            computed = dict(zip(missing, self.embedder(missing), strict=True))
            known |= computed
            with self._lock:
                if len(self._sentence_vectors) + len(computed) > _MAX_SENTENCE_VECTORS:
                    self._sentence_vectors.clear()
                self._sentence_vectors.update(itertools.islice(computed.items(), _MAX_SENTENCE_VECTORS))
        return np.array([known[text] for text in texts], np.float32).reshape(len(texts), self.embedder.size)

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One transaction over the store. Updates the vector index afterwards."""
        with self.store.writing() as change:
            yield change
        self.sync_index()

    def embed(self, passages: Sequence[str], progress: Progress | None = None, *, recompute: bool = False) -> int:
        """Computes and stores the vectors that `passages` lack, or all of them with `recompute`; returns their number."""
        by_hash = {text_hash(passage): passage for passage in passages}
        pending = by_hash if recompute else self.store.missing_vectors(self.embedder.name, by_hash)
        missing = sorted(pending, key=lambda key: len(by_hash[key]))
        for i in range(0, len(missing), _EMBEDDING_BATCH):
            keys = missing[i : i + _EMBEDDING_BATCH]
            self.store.add_vectors(self.embedder.name, keys, self.embedder([by_hash[key] for key in keys]))
            if progress:
                progress("embedding", min(i + _EMBEDDING_BATCH, len(missing)), len(missing))
        return len(missing)

    def embed_missing(self, progress: Progress | None = None) -> int:
        """Computes the vectors that indexed chunks lack, such as after a change of the embedding model; returns their number.

        The caller holds the lock of the home.
        """
        chunks = self.store.chunks_without_vector(self.embedder.name)
        if not chunks:
            return 0
        notes = self.store.notes(chunk.note_id for chunk in chunks)
        computed = self.embed([passage(notes[chunk.note_id], chunk) for chunk in chunks if chunk.note_id in notes], progress)
        with self.store.writing() as change:
            change.mark_embedded([chunk.id for chunk in chunks])
        return computed

    def sync_index(self) -> str:
        """Brings the vector index up to date with the store; see `IndexSync.synchronize`."""
        return self.index_sync.synchronize()


def _means(catalogue: Catalogue) -> Vectors:
    assert catalogue.vectors is not None
    sums = np.zeros((len(catalogue.note_ids), catalogue.vectors.shape[1]), np.float32)
    np.add.at(sums, catalogue.note_of, catalogue.vectors)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9), np.float32)
