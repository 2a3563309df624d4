"""The process that compiles: ``python -m vllm_diffusion.structured.compile_process FD``.

It holds a vocabulary, answers one constraint after the other, and ends with whoever started it.
What a client's constraint may do to it, a loop without end, all of its memory or a crash of a
library, it does to this process alone. Without a tokenizer it checks finished texts instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Literal

from vllm_diffusion.structured.constraint import Constraint, RefusedError
from vllm_diffusion.structured.limits import Limits

PR_SET_PDEATHSIG = 1
STACK_BYTES = 4 << 20
"""Half of a main thread's: what a library's recursion survives here it survives in a worker."""
NICENESS = 5
WARM = (
    Constraint("json", '{"type": "object", "properties": {"a": {"enum": [1]}}}'),
    Constraint("json_object", ""),
    Constraint("regex", "a"),
    Constraint("grammar", 'root ::= "a"'),
)
WARM_CHECKS = ((WARM[0], '{"a": 1}'), (WARM[2], "a"), (WARM[3], "a"))


def main(descriptor: int) -> None:
    """Answer until the other side goes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=_serve, args=(connection,))
    thread.start()
    thread.join()


def _serve(connection: Connection) -> None:
    from vllm_diffusion.structured.compiler import Compiler
    from vllm_diffusion.structured.vocabulary import Vocabulary

    spec, limits = connection.recv()
    assert isinstance(limits, Limits)
    if spec is None:
        _serve_checks(connection, limits)
        return
    compiler = Compiler(Vocabulary.of(spec), limits)
    for known in WARM:  # the libraries load parts of themselves when first needed
        _answer(compiler, known)
    _limit_memory(limits)
    connection.send("ready")
    while True:
        try:
            constraint = connection.recv()
        except (EOFError, OSError):
            return
        assert isinstance(constraint, Constraint)
        connection.send(_answer(compiler, constraint))


def _limit_memory(limits: Limits) -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))


def _serve_checks(connection: Connection, limits: Limits) -> None:
    for known, text in WARM_CHECKS:
        verdict(known, text, limits)
    _limit_memory(limits)
    connection.send("ready")
    with contextlib.suppress(EOFError, OSError):
        while True:
            constraint, text = connection.recv()
            connection.send(verdict(constraint, text, limits))


Verdict = tuple[Literal["valid", "invalid", "unchecked"], str]
"""What was found, and why."""


def verdict(constraint: Constraint, text: str, limits: Limits) -> Verdict:
    """What the check of a finished text finds; whatever fails in it is no verdict on the text."""
    from vllm_diffusion.structured.validity.check import InvalidError, check

    try:
        check(constraint, text, limits)
    except InvalidError as error:
        return "invalid", str(error)
    except Exception as error:  # a bound, a library's own, or a defect of the check
        return "unchecked", f"{type(error).__name__}: {error!s:.200}"
    return "valid", ""


def _answer(compiler: object, constraint: Constraint) -> tuple[str, object]:
    try:
        compiled = compiler.compile(constraint)  # type: ignore[attr-defined]
    except RefusedError as error:
        return "refused", str(error)
    except MemoryError:
        return "memory", ""
    except Exception as error:  # a library's own, or a defect of ours: this request's alone
        return "failed", f"{type(error).__name__}: {error!s:.300}"
    return "compiled", compiled.pack()


if __name__ == "__main__":
    main(int(sys.argv[1]))
