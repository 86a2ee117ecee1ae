"""passkb inside llama-index's own query pipeline, with the mock model that ships with llama-index-core."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_index.core import QueryBundle
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer

from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase
from service.answering.extractive import ask
from service.integrations.llama_index import PasskbQueryEngine, PasskbRetriever
from service.llm.client import LanguageModel
from tests.service.answering.scripted_server import said, serving

QUESTION = "Does RLVR expand what models can reason about?"
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def sample_kb(sample_home: Path, minilm: MiniLM) -> Iterator[KnowledgeBase]:
    with KnowledgeBase(sample_home, minilm) as opened:
        yield opened


def test_passages_are_nodes_with_exact_citations(sample_kb: KnowledgeBase) -> None:
    nodes = PasskbRetriever(sample_kb, 7).retrieve(QUESTION)
    _, hits = sample_kb.search(QUESTION, 7)
    assert [(node.node_id, node.score) for node in nodes] == [(hit.chunk_id, hit.score) for hit in hits]
    for node in nodes:
        note = sample_kb.store.note(node.metadata["note_id"])
        assert note is not None and (node.metadata["title"], node.metadata["path"]) == (note.title, note.path)
        assert note.text[node.metadata["start"] : node.metadata["end"]] == node.metadata["quote"] == node.text
    assert asyncio.run(PasskbRetriever(sample_kb, 7).aretrieve(QueryBundle(QUESTION)))[0].node_id == nodes[0].node_id


def test_their_query_engine_writes_from_our_passages(sample_kb: KnowledgeBase) -> None:
    synthesizer = get_response_synthesizer(llm=MockLLM())
    response = RetrieverQueryEngine(PasskbRetriever(sample_kb, 3), synthesizer).query(QUESTION)
    retrieved = PasskbRetriever(sample_kb, 3).retrieve(QUESTION)
    assert [node.node_id for node in response.source_nodes] == [node.node_id for node in retrieved]
    for node in response.source_nodes:  # the mock model repeats its prompt: passages and titles, and no offsets
        assert node.text.strip() in str(response) and node.metadata["title"] in str(response)
    assert "note_id" not in str(response)


def test_our_query_engine_answers_with_one_node_per_citation(sample_kb: KnowledgeBase) -> None:
    response = PasskbQueryEngine(kb=sample_kb).query(QUESTION)
    answer = ask(sample_kb, QUESTION)
    assert response.metadata is not None and response.metadata["statements"] == answer.to_json()["statements"]
    cited = [citation for statement in answer.statements for citation in statement.citations]
    assert [n.metadata["quote"] for n in response.source_nodes] == [c.quote for c in cited] and "[1]" in str(response)
    refused = PasskbQueryEngine(kb=sample_kb).query("How is sourdough bread baked?")
    assert refused.metadata is not None and str(refused) == refused.metadata["reason"] and not refused.source_nodes
    assert str(asyncio.run(PasskbQueryEngine(kb=sample_kb).aquery(QUESTION))) == str(response)


def test_our_query_engine_can_write_with_a_model(sample_kb: KnowledgeBase) -> None:
    with serving(said("RLVR makes a model more likely to be right at the first attempt [1].")) as server:
        response = PasskbQueryEngine(kb=sample_kb, model=LanguageModel(server.url, "scripted")).query(QUESTION)
    assert response.metadata is not None and response.source_nodes and len(server.asked) >= 1


def test_it_opens_no_connection(sample_home: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('a connection')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from kb.offline import go_offline; go_offline()\n"
        "from pathlib import Path\n"
        "from llama_index.core.llms import MockLLM\n"
        "from llama_index.core.query_engine import RetrieverQueryEngine\n"
        "from kb.knowledge_base import KnowledgeBase\n"
        "from service.integrations.llama_index import PasskbQueryEngine, PasskbRetriever\n"
        "with KnowledgeBase(Path(sys.argv[1])) as kb:\n"
        "    engine = RetrieverQueryEngine.from_args(PasskbRetriever(kb), llm=MockLLM())\n"
        "    print(len(str(engine.query('What is pass@k?'))), PasskbQueryEngine(kb=kb).query('What is pass@k?'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(sample_home)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "[1]" in done.stdout, done.stderr
