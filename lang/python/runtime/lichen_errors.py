"""Errors as Lambda words them: {"errorMessage", "errorType", "requestId", "stackTrace"}."""

import sys
import traceback

import lichen_logging

_OURS = __file__.rpartition("/")[0] + "/"


class Fault(Exception):
    """An error of the function that the runtime has found: its type is Lambda's, not a class."""

    def __init__(self, kind, message, trace=()):
        super().__init__(message)
        self.kind = kind
        self.trace = list(trace)


def describe(error, request_id=""):
    """The error object of an exception."""
    if isinstance(error, Fault):
        kind, trace = error.kind, error.trace
    else:
        kind, trace = type(error).__name__, _trace(error.__traceback__)
    return {"errorMessage": _text(error), "errorType": kind, "requestId": request_id, "stackTrace": trace}


def _text(error):
    try:
        return str(error)
    except Exception:  # a class of the function's with a broken __str__
        return f"<unprintable {type(error).__name__} object>"


def _trace(tb):
    # The runtime's own frames come first, and are nobody's business.
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OURS):
        tb = tb.tb_next
    frames = traceback.extract_tb(tb)
    # Tuples carry no column numbers, so lines come without markers below them, as on Lambda.
    return traceback.format_list([(f.filename, f.lineno, f.name, f.line) for f in frames])


def log(described):
    """Writes the error to the log as Lambda does: one record, as text with carriage returns between its lines."""
    try:
        sys.stdout.write(lichen_logging.error(described) if lichen_logging.is_json else _text_record(described))
    except (AttributeError, OSError, ValueError):
        pass  # the function has closed its output: the error itself is still answered


def _text_record(described):
    lines = [f"[ERROR] {described['errorType']}: {described['errorMessage']}".rstrip(": ")]
    if described["stackTrace"]:
        lines.append("Traceback (most recent call last):")
        for entry in described["stackTrace"]:
            lines += [_indent(line) for line in entry.splitlines()]
    return "\r".join(lines) + "\n"


def _indent(line):
    text = line.lstrip(" ")
    return "\u00a0" * (len(line) - len(text)) + text
