"""FIFOs: messages from many writers to one reader, through memory, wherever the two run. See docs/fifo.md.

    inbox = fifo.create()                       another function, told inbox.id:
    inbox.grant(other, "w")                         out = fifo.connect_writer(id)
    reader = inbox.connect_reader()                 out.write(b"...")
    message = reader.read()

The work is done by the runtime's library; nothing here keeps a state beside the numbers of ends.
"""

import time

from _lichen import fifo as _call

# A wait is cut into slices, so that signals are seen.
_SLICE_US = 500_000


class FifoError(OSError):
    """Something could not be done with a FIFO."""


class NotPermitted(FifoError):
    """This process does not hold the right: ask an owner to grant it."""


class Ended(FifoError):
    """The other side will not go on: `why` is closed, died, lost, revoked or broken; `sender` whose end it was, of a reader."""

    def __init__(self, message, why, sender=None):
        super().__init__(message)
        self.why = why
        self.sender = sender


class TimedOut(FifoError, TimeoutError):
    """Nothing has happened in time."""


class Message(bytes):
    """A message; `sender` is the process that wrote it."""

    sender = None


def _done(answer):
    word, value = answer
    if word == "":
        return value
    if word == "timeout":
        raise TimedOut(value)
    if word == "not-permitted":
        raise NotPermitted(value)
    if word == "value":
        raise ValueError(value)
    if word == "failed":
        raise FifoError(value)
    raise Ended(value, word)


def process_id():
    """This process, as others name it when they grant it rights."""
    return _done(_call("process_id"))


def create(id="", message_max=0):
    """Makes a FIFO, which this process owns: with an id of its own choice, or a new one."""
    return Fifo(_done(_call("create", id, message_max)))


def connect_reader(id):
    """Connects as the one who reads."""
    return Reader(_done(_call("reader", id)))


def connect_writer(id):
    """Connects as one of those who write."""
    return Writer(_done(_call("writer", id)))


class Fifo:
    """A FIFO that this process has made. It ends with `close`, or with the process."""

    def __init__(self, id):
        self.id = id

    def grant(self, process, rights):
        """Gives a process rights: `r` to read, `w` to write, `o` to grant and revoke in its turn."""
        _done(_call("grant", process, self.id, rights))

    def revoke(self, process, rights):
        """Takes them back. When this returns, nothing that the process writes is read any more."""
        _done(_call("revoke", process, self.id, rights))

    def connect_reader(self):
        return connect_reader(self.id)

    def connect_writer(self):
        return connect_writer(self.id)

    def close(self):
        """Ends it for all."""
        _done(_call("release", self.id))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _End:
    def __init__(self, number):
        self._number = number

    def close(self):
        """Gives this end up."""
        _call("close", self._number)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    __del__ = close

    def _patiently(self, timeout, what, *arguments):
        """Waits in slices; for ever where there is no timeout."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _SLICE_US if until is None else min(_SLICE_US, max(0, int((until - time.monotonic()) * 1e6)))
            answer = _call(what, self._number, left, *arguments)
            if answer[0] != "timeout" or (until is not None and time.monotonic() >= until):
                return _done(answer)


class Reader(_End):
    """The reading end of a FIFO."""

    def read(self, timeout=None):
        """The next message. Where a writer has ended, and its last message is read, `Ended` says so, once."""
        sender, message, why = self._patiently(timeout, "read")
        if why:
            raise Ended(f"a writer of this FIFO will not go on: {why}", why, sender)
        message = Message(message)
        message.sender = sender
        return message


class Writer(_End):
    """A writing end of a FIFO."""

    def write(self, message, timeout=None):
        """Writes a message (bytes), waiting for room."""
        self._patiently(timeout, "write", bytes(message))
