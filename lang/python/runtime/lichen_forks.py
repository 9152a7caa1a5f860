"""Fork hooks: who registered them, which of them a fork of the template needs, and what makes its children differ.

Libraries register hooks with os.register_at_fork. The standard library's own replace locks that other threads might
hold (threading, logging, concurrent.futures) and seed random again, at a cost of 370 microseconds and 200 page faults. A
template has one thread, so no lock is held by another; its children seed what there is to seed, and that is all. Hooks
of other libraries run. When a function forks by itself, in whatever state its threads are, all hooks run.

It does not seed generators that libraries or functions have made for themselves: what a template draws from is copied.
"""

import functools
import os
import sys

import _lichen

_register = os.register_at_fork
_hooks = []


class _Hooks:
    """What one call of os.register_at_fork has registered."""

    __slots__ = ("before", "child", "parent", "always")

    def __init__(self, before, child, parent, always):
        self.before = before
        self.child = child
        self.parent = parent
        self.always = always


def install():
    """Takes the place of os.register_at_fork."""
    _lichen.hook((_before, _in_child, _in_parent))
    _register(
        before=_lichen.before_fork,
        after_in_child=_lichen.after_fork_in_child,
        after_in_parent=_lichen.after_fork_in_parent,
    )
    os.register_at_fork = register


def register(*, before=None, after_in_child=None, after_in_parent=None):
    """Register callables to be called when forking a new process."""
    if before is None and after_in_child is None and after_in_parent is None:
        raise TypeError("At least one argument is required.")
    for hook in (before, after_in_child, after_in_parent):
        if hook is not None and not callable(hook):
            raise TypeError(f"{hook!r} is not callable")
    caller = sys._getframe(1).f_globals.get("__name__") or ""
    always = caller.partition(".")[0] not in sys.stdlib_module_names
    _hooks.append(_Hooks(before, after_in_child, after_in_parent, always))


def asked():
    """Whether some library wants to hear of the template's own forks."""
    return any(hooks.always for hooks in _hooks)


def _run(hooks):
    for hook in hooks:
        if hook is not None:
            try:
                hook()
            except BaseException:  # as the interpreter does: a hook that fails is told of, the fork goes on
                sys.excepthook(*sys.exc_info())


def _before(ours):
    _run(hooks.before for hooks in reversed(_hooks) if hooks.always or not ours)


def _in_parent(ours):
    _run(hooks.parent for hooks in _hooks if hooks.always or not ours)


def _in_child(ours):
    _run(hooks.child for hooks in _hooks if hooks.always or not ours)


def seeds():
    """What a child calls to draw other random numbers than its siblings.

    Nothing is to be done for os.urandom, uuid4 and secrets, which ask the kernel, nor for OpenSSL, which notices that
    its process id has changed.
    """
    seeds = []
    if (random := sys.modules.get("random")) is not None:
        random.seed()  # forgets the half of a gauss() as well
        seeds.append(functools.partial(random.Random.__base__.seed, random._inst))
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        seeds.append(lambda: numpy_random.seed(list(os.urandom(32))))
    return tuple(seeds)
