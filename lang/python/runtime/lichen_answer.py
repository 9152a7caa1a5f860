"""What is unusual between an event's text and an answer's; the usual is Rust's (`answer.rs`)."""

import json
import sys

import lichen_errors
from lichen_errors import Fault


class _Decimals:
    """Encodes what json cannot: Decimal, as the number that it is.

    json lets nobody write a number of their own, so each stands as a text that occurs nowhere else, and is put in
    afterwards.
    """

    def __init__(self):
        self.found = {}

    def default(self, value):
        decimal = sys.modules.get("decimal")
        if decimal is None or not isinstance(value, decimal.Decimal):
            raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
        if value.is_nan():
            return float("nan")
        mark = f"lichen-decimal-{id(self)}-{len(self.found)}"
        self.found[f'"{mark}"'] = str(value)
        return mark

    def put_in(self, text):
        for mark, number in self.found.items():
            text = text.replace(mark, number, 1)
        return text


# From Python 3.12 on, Lambda answers in UTF-8 rather than in escapes.
ASCII = sys.version_info < (3, 12)


def decode(text):
    """The value of an event's text."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def encode(value):
    """The answer's text."""
    decimals = _Decimals()
    try:
        text = json.JSONEncoder(ensure_ascii=ASCII, default=decimals.default).encode(value)
        text = decimals.put_in(text)
        text.encode()
        return text
    except Exception as error:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None


def failed(error, request_id=""):
    """Logs an error: Lambda's object of it, as text."""
    described = lichen_errors.describe(error, request_id)
    lichen_errors.log(described)
    return json.dumps(described)


def too_large(limit):
    """What becomes of an answer that is longer than the limit."""
    message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return json.dumps({"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"})
