"""Reads a PDF in a separate process, so that a file that crashes or hangs pdfium or fills the memory affects nothing else.

As a program: reads a PDF from standard input, its path as the argument, and prints an ExtractedDocument or an error as JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from ingest.readers.extracted_document import ExtractedDocument
from kb.notes import PasskbError

_TIMEOUT_S = 300.0
_MEMORY_LIMIT = 4 * 2**30  # bytes of address space
_PROGRAM = (sys.executable, "-P", "-m", "ingest.readers.pdf.subprocess")


def read_pdf_in_subprocess(
    data: bytes, *, path: str, seconds: float = _TIMEOUT_S, program: Sequence[str] = _PROGRAM
) -> ExtractedDocument:  # fmt: skip
    """Like `read_pdf`. Raises PasskbError also when the reader crashes or exceeds `seconds`."""
    try:
        process = subprocess.run([*program, path], input=data, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise PasskbError(
            f"{path}: not read in {seconds:g} s: print it to a new PDF, split it, or add it to .passkbignore"
        ) from None
    try:
        reply = json.loads(process.stdout)
    except ValueError:
        raise PasskbError(
            f"{path}: the PDF reader crashed (exit status {process.returncode}): print it to a new PDF, or download it again"
        ) from None
    if "reason" in reply:
        raise PasskbError(reply["reason"])
    return ExtractedDocument(reply["title"], reply["text"], tuple(reply["warnings"]), tuple(reply["pages"]), reply["lines"])


def main() -> int:
    from ingest.readers.pdf.reader import read_pdf

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    path = sys.argv[1]
    try:
        reply = asdict(read_pdf(sys.stdin.buffer.read(), path=path))
    except PasskbError as error:
        reply = {"reason": str(error)}
    except MemoryError:
        reply = {"reason": f"{path}: reading it takes more than 4 GB of memory: print it to a new PDF, or split it"}
    print(json.dumps(reply))
    return 0


if __name__ == "__main__":
    sys.exit(main())
