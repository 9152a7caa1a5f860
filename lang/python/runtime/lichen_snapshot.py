"""Runtime hooks of SnapStart, around the forks of a template that has loaded its function.

    load ─► before_snapshot, the last first ─► fork point ─► child: after_restore, in order ─► first invocation

A function that is loaded in the process that serves it has no snapshot. Where AWS would have made one all the same (a version
with SnapStart), both kinds of hooks run there, one after the other. What a function brings of its own under the name
of `snapshot_restore_py` is never imported: this one is there before it.
"""

import lichen_errors
import snapshot_restore_py
from lichen_errors import Fault


def before():
    """Runs what is registered for before the snapshot."""
    registered = snapshot_restore_py.get_before_snapshot()
    try:
        while registered:
            func, args, kwargs = registered.pop()
            func(*args, **kwargs)
    except Exception as error:
        raise _failed("Runtime.BeforeSnapshotError", error) from None


def after():
    """Runs what is registered for after the restore."""
    try:
        for func, args, kwargs in snapshot_restore_py.get_after_restore():
            func(*args, **kwargs)
    except Exception as error:
        raise _failed("Runtime.AfterRestoreError", error) from None


def is_awaited():
    """Whether something is registered for after the restore."""
    return bool(snapshot_restore_py.get_after_restore())


def both():
    """A snapshot that is restored at once."""
    before()
    after()


def _failed(kind, error):
    described = lichen_errors.describe(error)
    return Fault(kind, f"{described['errorType']}: {described['errorMessage']}", described["stackTrace"])
