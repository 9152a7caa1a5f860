"""What functions register to be called before they are snapshotted and after they are restored, as on AWS Lambda.

A fork stands for both: `lichen_snapshot` calls what is registered here.
"""

__all__ = ["register_after_restore", "register_before_snapshot"]

_before = []
_after = []


def register_before_snapshot(func, *args, **kwargs):
    """Has `func` called before the snapshot; those that were registered last come first. Answers `func`."""
    _before.append((func, args, kwargs))
    return func


def register_after_restore(func, *args, **kwargs):
    """Has `func` called in every restored process, in the order of registration. Answers `func`."""
    _after.append((func, args, kwargs))
    return func


def get_before_snapshot():
    """The list of (function, arguments, keywords) to be called before."""
    return _before


def get_after_restore():
    """The list of (function, arguments, keywords) to be called after."""
    return _after
