"""From an event's text to an answer's, for one invocation. It knows no channel, so a template can rehearse it."""

import json
import sys

import lichen_errors
import lichen_logging
from lichen_context import LambdaContext
from lichen_errors import Fault

_decode = json.JSONDecoder().decode


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
_ASCII = sys.version_info < (3, 12)
_encode = json.JSONEncoder(ensure_ascii=_ASCII).encode


def encode(value):
    """The answer: ASCII text, or bytes."""
    if isinstance(value, bytes):
        return value
    try:
        text = _encode(value)
    except TypeError:
        decimals = _Decimals()
        text = json.JSONEncoder(ensure_ascii=_ASCII, default=decimals.default).encode(value)
        text = decimals.put_in(text)
    return text if text.isascii() else text.encode()


def answer(handler, settings, invocation, begin):
    """Runs the handler, calling `begin` just before: whether it succeeded, and the answer or Lambda's error object."""
    event, deadline, request_id, arn, _trace_id, client_context, identity, tenant = invocation
    lichen_logging.set_request(request_id)
    try:
        context = LambdaContext(settings, deadline, request_id, arn, client_context, identity, tenant)
        try:
            event = _decode(event) if event else {}
        except ValueError as error:
            raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None
        begin()
        value = handler(event, context)
        try:
            body = encode(value)
        except Exception as error:
            raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None
        if len(body) > settings.response_max:
            return False, too_large(settings.response_max)
        return True, body
    except Exception as error:
        return False, failure(error, request_id)


def failure(error, request_id=""):
    """Logs an error: Lambda's object of it, as text."""
    described = lichen_errors.describe(error, request_id)
    lichen_errors.log(described)
    return json.dumps(described)


def too_large(limit):
    """What becomes of an answer that is longer than the limit."""
    message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return json.dumps({"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"})
