"""An instance: takes invocations and answers them, one after the other, until it is ended."""

import os
import sys

import _lichen
import lichen_forks
from lichen_answer import answer, failure, too_large

_TRACE = "_X_AMZN_TRACE_ID"


def fail_to_load(error):
    """Says that the function cannot be loaded, and ends."""
    text = failure(error)
    flush()
    _lichen.init_failed(text)
    sys.exit(1)


def serve(handler, settings, spin_ns=0):
    """Never returns."""
    take, begin, reply, fail = _lichen.take, _lichen.begin, _lichen.reply, _lichen.fail
    while True:
        invocation = take(spin_ns)
        _set_trace(invocation[4])
        succeeded, body = answer(handler, settings, invocation, begin)
        flush()
        if lichen_forks.is_descendant():
            # The handler has forked, and this is its child, which was not meant to come here.
            os._exit(0)
        limit = reply(body) if succeeded else fail(body)
        if limit is not None:
            fail(too_large(limit))


def _set_trace(trace_id):
    if trace_id:
        os.environ[_TRACE] = trace_id
    elif _TRACE in os.environ:
        del os.environ[_TRACE]


def flush():
    """All that was printed is in the log's pipe afterwards."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # the function has closed it, or put something else there
