"""What the command prints, to a reader who may be gone and on a terminal that may not show it.

Only this module writes to stdout and stderr. A character that a terminal cannot show is replaced, and a reader who
goes away changes neither what a command does nor its exit code: the answer is lost, never the result.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_PLAIN = {"–": "-", "…": "...", "≤": "<=", "≥": ">=", "×": "x", "·": "-", "→": "->", "’": "'"}
_GONE = (errno.EPIPE, errno.EBADF, errno.EIO)  # nobody reads, which is the reader's own choice
_ERRORS = "lanelock"


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """Returns our own signs in ASCII, and anything else as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = _PLAIN.get(error.object[error.start])
    return (plain, error.start + 1) if plain is not None else codecs.backslashreplace_errors(error)


codecs.register_error(_ERRORS, _replaced)


class _Output(io.FileIO):
    """A file descriptor that drops what cannot be written, from the first failure on."""

    failure: OSError | None = None
    lost = False  # whether anything was dropped

    def write(self, data: bytes) -> int:  # type: ignore[override]  # never None
        while self.failure is None:
            try:
                if (written := super().write(data)) is not None:
                    return written
                select.select([], [self], [])  # a full pipe that does not block
            except OSError as error:
                self.failure = error
        self.lost = True
        return len(data)


def say(text: str) -> None:
    """Prints one line on stderr."""
    from lanelock.sweeps.pages.text import one_line, printable  # its tables take a while, which help need not pay

    print(printable(one_line(text)), file=sys.stderr, flush=True)


def say_note(text: str) -> None:
    """Prints a note on stderr; nothing where there is none."""
    if text:
        say(f"lanelock: note: {text}")


def say_all(text: str) -> None:
    """Prints several lines on stderr."""
    for line in text.splitlines():
        print(line, file=sys.stderr, flush=True)


def answer(text: str) -> None:
    """Prints a command's answer on stdout."""
    print(text, flush=True)


@contextmanager
def streams() -> Iterator[Callable[[int], int]]:
    """Makes stdout and stderr fail for no reader and no character. Yields what the exit code is once all is printed.

    A caller in whose process they are something else keeps them.
    """
    closed = _reopened()
    before = sys.stdout, sys.stderr
    outputs: dict[int, _Output] = {}
    if sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__:
        outputs = {number: _Output(number, "w", closefd=False) for number in (1, 2)}
        sys.stdout, sys.stderr = (
            _text(number, outputs[number], stream) for number, stream in zip((1, 2), before, strict=True)
        )
    for number in closed & outputs.keys():
        outputs[number].failure = OSError(errno.EBADF, "closed")
    try:
        yield lambda code: _after(outputs[1], code) if outputs else code
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _reopened() -> set[int]:
    """Opens closed standard descriptors on nothing, lest a file of ours takes their number. Returns which they were."""
    closed = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            closed.add(number)
    return closed


def _text(number: int, output: _Output, stream: TextIO | None) -> TextIO:
    if stream is not None:
        stream.flush()
    encoding = "utf-8" if stream is None else stream.encoding
    buffered = io.BufferedWriter(output)  # type: ignore[type-var]  # an io.FileIO, whose write never gives None here
    return io.TextIOWrapper(buffered, encoding, _ERRORS, line_buffering=number == 2 or output.isatty())


def _after(output: _Output, code: int) -> int:
    """Says that the answer was lost, and returns the exit code: the result's where nobody reads, else 2 for success."""
    failure = output.failure
    if failure is None or not output.lost:
        return code
    say(f"lanelock: note: standard output: {failure.strerror}; the answer was not printed whole")
    return code if failure.errno in _GONE or code > 1 else 2
