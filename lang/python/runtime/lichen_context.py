"""The second argument of every handler."""

import json
import sys
import time

from lichen_errors import Fault


class Record:
    """Named attributes, absent ones None."""

    __slots__ = ()

    @classmethod
    def of(cls, values):
        record = cls()
        for name in cls.__slots__:
            setattr(record, name, values.get(name))
        return record

    def __repr__(self):
        fields = ",".join(f"{name}={getattr(self, name)}" for name in self.__slots__)
        return f"{type(self).__name__}([{fields}])"


class CognitoIdentity(Record):
    """Who the caller is, where a mobile SDK said so."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")


class Client(Record):
    """The mobile application that called."""

    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class ClientContext(Record):
    """What the caller sent along in X-Amz-Client-Context."""

    __slots__ = ("custom", "env", "client")


class Settings:
    """What is the same for every invocation of an instance: filled in when it gets its configuration."""

    __slots__ = ("function_name", "function_version", "memory", "log_group", "log_stream")

    def __init__(self):
        self.function_name = self.function_version = self.memory = self.log_group = self.log_stream = ""


# What there is of a trace context.
_W3C = frozenset(("traceparent", "tracestate", "baggage"))

# What most invocations have: nobody said who the caller is.
_NOBODY = CognitoIdentity.of({})


class LambdaContext:
    """What an invocation is told about itself."""

    def __init__(self, settings, deadline_ms, request_id, arn, client_context, identity, tenant_id):
        self.aws_request_id = request_id
        self.log_group_name = settings.log_group
        self.log_stream_name = settings.log_stream
        self.function_name = settings.function_name
        self.memory_limit_in_mb = settings.memory
        self.function_version = settings.function_version
        self.invoked_function_arn = arn
        self.tenant_id = tenant_id or None
        self.client_context, self._w3c = _client_context(client_context) if client_context else (None, {})
        self.identity = _identity(identity) if identity else _NOBODY
        self._epoch_deadline_time_in_ms = deadline_ms

    def get_remaining_time_in_millis(self):
        """Milliseconds until the invocation is ended."""
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def w3c(self):
        """The fields of the W3C's trace context that the caller sent along."""
        return dict(self._w3c)

    def log(self, message):
        """Writes to the log, with nothing added."""
        sys.stdout.write(str(message))

    def __repr__(self):
        fields = ",".join(f"{name}={value}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"LambdaContext([{fields}])"


def _client_context(text):
    values = _parse(text, "Client Context")
    sent = values.pop("w3c", None)
    fields = sent.items() if isinstance(sent, dict) else ()
    w3c = {name: value for name, value in fields if name in _W3C and isinstance(value, str)}
    context = ClientContext.of(values)
    if context.client is not None:
        context.client = Client.of(context.client)
    return context, w3c


def _identity(text):
    values = _parse(text, "Cognito Identity")
    names = {"cognito_identity_id": "cognitoIdentityId", "cognito_identity_pool_id": "cognitoIdentityPoolId"}
    return CognitoIdentity.of({name: values.get(theirs) for name, theirs in names.items()})


def _parse(text, name):
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("not an object")
        return values
    except ValueError as error:
        kind = "Runtime.LambdaContextUnmarshalError"
        raise Fault(kind, f"Unable to parse {name} JSON: {error}") from None
