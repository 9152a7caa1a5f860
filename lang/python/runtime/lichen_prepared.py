"""What children find ready: the objects that Rust calls or fills in (`prepared.rs`)."""

import builtins
import importlib.machinery
import importlib.util
import json
import marshal
import os
import sys

import _lichen
import lichen_answer
import lichen_function
import lichen_logging
import lichen_rehearsal
import lichen_snapshot
from lichen_context import LambdaContext, Settings


def prepare():
    """Hands all of it to Rust."""
    encoder = json.JSONEncoder(ensure_ascii=lichen_answer.ASCII)
    markers = {}
    loader = importlib.machinery.SourceFileLoader("", "")
    spec = importlib.machinery.ModuleSpec("", loader, origin="")
    spec.has_location = True
    parts = json.encoder.c_make_encoder(
        markers,
        encoder.default,
        json.encoder.encode_basestring_ascii if lichen_answer.ASCII else json.encoder.encode_basestring,
        None,
        encoder.key_separator,
        encoder.item_separator,
        encoder.sort_keys,
        encoder.skipkeys,
        encoder.allow_nan,
    )
    _lichen.prepare(
        {
            "scan": json.JSONDecoder().scan_once,
            "decode": lichen_answer.decode,
            "encode_parts": parts,
            "markers": markers,
            "encode": lichen_answer.encode,
            "context": LambdaContext,
            "settings": Settings(),
            "failed": lichen_answer.failed,
            "too_large": lichen_answer.too_large,
            "set_trace": lichen_function.set_trace,
            "settled": lichen_function.settled,
            "log": vars(lichen_logging),
            "environ": os.environ._data,
            "load": lichen_function.load,
            "snapshot": lichen_snapshot.both,
            "explain": lichen_function.explain,
            "rehearsed": lichen_rehearsal.handler,
            "rehearse_start": lichen_rehearsal.start,
            "spec": spec,
            "loader": loader,
            "compile": builtins.compile,
            "unmarshal": marshal.loads,
            "magic": importlib.util.MAGIC_NUMBER,
            "bytecode_suffix": f".{sys.implementation.cache_tag}.pyc",
            "extension_suffixes": " ".join(importlib.machinery.EXTENSION_SUFFIXES),
        }
    )
