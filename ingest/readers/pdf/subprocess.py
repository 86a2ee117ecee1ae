"""A PDF read in a process of its own: a file that crashes pdfium, keeps it busy without end or fills the memory ends that
process, and nothing else. It costs a tenth of a second a file.

As a program: a PDF on standard input, its name as the argument; an Imported, or why there is none, as JSON on standard output.
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

_SECONDS = 300.0
_MEMORY = 4 * 2**30  # bytes of address space
_PROGRAM = (sys.executable, "-P", "-m", "ingest.readers.pdf.subprocess")


def read_pdf_in_subprocess(
    data: bytes, *, path: str, seconds: float = _SECONDS, program: Sequence[str] = _PROGRAM
) -> ExtractedDocument:  # fmt: skip
    """As `read_pdf`. Raises PasskbError also for a file that the reader does not survive, or not in `seconds`."""
    try:
        done = subprocess.run([*program, path], input=data, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise PasskbError(
            f"{path}: not read in {seconds:g} s: print it to a new PDF, split it, or leave it out by a line in .passkbignore"
        ) from None
    try:
        told = json.loads(done.stdout)
    except ValueError:
        raise PasskbError(
            f"{path}: the PDF reader ended on it (exit status {done.returncode}): print it to a new PDF, or download it again"
        ) from None
    if "reason" in told:
        raise PasskbError(told["reason"])
    return ExtractedDocument(told["title"], told["text"], tuple(told["warnings"]), tuple(told["pages"]), told["lines"])


def main() -> int:
    from ingest.readers.pdf.reader import read_pdf

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    path = sys.argv[1]
    try:
        told = asdict(read_pdf(sys.stdin.buffer.read(), path=path))
    except PasskbError as error:
        told = {"reason": str(error)}
    except MemoryError:
        told = {"reason": f"{path}: it takes more than 4 GB of memory to read: print it to a new PDF, or split it"}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
