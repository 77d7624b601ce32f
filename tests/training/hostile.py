"""Pickles that try to do more than hold a model, and a harness that reads them with a canary and an audit hook.

``python hostile.py FOLDER`` reads every ``*.bin`` of FOLDER and prints one JSON object per file: how it ended, what it named, and
which events the interpreter saw meanwhile.
"""

import bz2
import gzip
import io
import json
import lzma
import pickle
import pickletools
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIMIT = 8 << 20
# what running somebody's code looks like to the interpreter
SUSPICIOUS = (
    "os.",
    "subprocess.",
    "exec",
    "compile",
    "socket.",
    "shutil.",
    "ctypes.",
    "import",
    "code.",
    "pty.",
    "marshal.",
)
FRAME, STOP = b"\x80\x04", b"."


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def named(module: str, name: str) -> bytes:
    """STACK_GLOBAL."""
    return text(module) + text(name) + b"\x93"


def called(module: str, name: str, *arguments: bytes) -> bytes:
    """REDUCE of a global with arguments."""
    return named(module, name) + b"(" + b"".join(arguments) + b"t" + b"R"


def hostile(canary: str) -> Iterator[tuple[str, bytes, str]]:
    """Yield (name, payload, words the refusal has to contain); every payload would create the file `canary`."""
    touch = text(f"touch {canary}")
    code = text(f"open({canary!r}, 'w').close()")
    callables = [
        ("os", "system", touch), ("posix", "system", touch), ("nt", "system", touch), ("os", "popen", touch),
        ("subprocess", "getoutput", touch), ("subprocess", "Popen", touch), ("subprocess", "check_output", touch),
        ("builtins", "eval", code), ("builtins", "exec", code), ("__builtin__", "eval", code), ("builtins", "open", text(canary) + text("w")),
        ("builtins", "__import__", text("os")), ("builtins", "getattr", text("x") + text("y")), ("builtins", "compile", code),
        ("builtins", "globals", b""), ("builtins", "breakpoint", b""), ("builtins", "setattr", text("x")), ("builtins", "type", text("x")),
        ("importlib", "import_module", text("os")), ("runpy", "run_path", text(canary)), ("pickle", "loads", text("x")), ("joblib", "load", text(canary)),
        ("joblib.numpy_pickle", "load", text(canary)), ("joblib.numpy_pickle", "NumpyArrayWrapper", b""), ("numpy", "load", text(canary)),
        ("numpy", "fromfile", text(canary)), ("numpy", "memmap", text(canary)), ("numpy._core.multiarray", "_reconstruct", b""),
        ("numpy.core.multiarray", "_reconstruct", b""), ("numpy", "ndarray", b""), ("numpy.testing._private.utils", "runstring", code),
        ("numpy.f2py.diagnose", "run_command", touch), ("catboost.core", "CatBoost", b""), ("catboost.core", "CatBoostClassifier", b""),
        ("catboost.core", "train", b""), ("catboost", "CatBoostRegressor", b""), ("catboost.core", "os", b""), ("shutil", "rmtree", text(canary)),
        ("operator", "attrgetter", text("system")), ("operator", "methodcaller", text("x")), ("functools", "partial", b""), ("codecs", "decode", text("x")),
        ("copyreg", "_reconstructor", b""), ("copyreg", "__newobj__", b""), ("ctypes", "CDLL", text("libc.so.6")), ("socket", "socket", b""),
        ("webbrowser", "open", text("file:///")), ("timeit", "timeit", code), ("pdb", "run", code), ("cProfile", "run", code), ("pty", "spawn", touch),
    ]  # fmt: skip
    for module, name, argument in callables:
        yield f"{module}.{name}", FRAME + called(module, name, argument) + STOP, f"{module}.{name}"
    model, dtype, scalar = (
        named("catboost.core", "CatBoostRegressor"),
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "scalar"),
    )
    evil = called("os", "system", touch)
    yield "dotted", FRAME + called("catboost.core", "CatBoostRegressor.__init__.__globals__", b"") + STOP, "__globals__"
    yield "dotted dtype", FRAME + called("numpy", "dtype.__class__", b"") + STOP, "numpy.dtype.__class__"
    yield "nested in arguments", FRAME + model + b"(" + evil + b"t\x81" + STOP, "os.system"
    yield "nested in state", FRAME + model + b")\x81}" + text("__model") + evil + b"sb" + STOP, "os.system"
    yield "hostile dict", FRAME + model + b")\x81}" + text("__class__") + evil + b"sb" + STOP, "os.system"
    yield "object scalar", FRAME + called(*scalar, called(*dtype, text("O")), evil) + STOP, "os.system"
    yield "old global", b"cos\nsystem\n(S'touch " + canary.encode() + b"'\ntR.", "os.system"
    yield "inst", b"(S'touch " + canary.encode() + b"'\nios\nsystem\n.", "os.system"
    yield "obj", b"(cos\nsystem\nS'touch " + canary.encode() + b"'\no.", "os.system"
    yield "newobj", FRAME + named("os", "system") + b"(" + touch + b"t\x81" + STOP, "os.system"
    yield "newobj_ex", FRAME + named("os", "system") + b"(" + touch + b"t}\x92" + STOP, "os.system"
    yield (
        "memo swap",
        FRAME + text("os") + b"\x94" + text("system") + b"\x940" + b"0h\x00h\x01\x93(" + touch + b"tR" + STOP,
        "os.system",
    )
    yield (
        "long memo",
        FRAME
        + text("os")
        + b"r\xff\xff\x00\x000"
        + b"j\xff\xff\x00\x00"
        + text("system")
        + b"\x93("
        + touch
        + b"tR"
        + STOP,
        "os.system",
    )
    yield "extension", b"\x80\x02\x82\x01.", "extension"
    yield "persistent id", FRAME + text("x") + b"Q" + STOP, "persistent"
    yield "persistent line", b"Pos.system\n.", "persistent"
    yield "just a string", FRAME + text("hello") + STOP, "a str,"
    yield "just a dtype", FRAME + called(*dtype, text("f8")) + STOP, "dtype"
    yield "unfitted", FRAME + model + b")\x81" + STOP, ""
    yield (
        "attributes",
        FRAME + model + b")\x81}" + text("predict") + text("x") + b"s" + text("_object") + b"Nsb" + STOP,
        "",
    )
    yield "slots state", FRAME + model + b")\x81}}" + text("__class__") + b"Ns\x86b" + STOP, ""
    yield "no model inside", FRAME + model + b")\x81}" + text("__model") + b"C\x04CBM1" + b"sb" + STOP, ""
    yield "empty", b"", ""
    yield "cut", FRAME + model, ""
    yield "stack underflow", FRAME + b"R" + STOP, ""
    yield "unknown opcode", FRAME + b"\xfe" + STOP, ""
    yield "future protocol", b"\x80\x63.", ""
    yield "deep nesting", FRAME + b"(" * 200_000 + STOP, ""
    yield "deep lists", FRAME + b"]" * 100_000 + b"a" * 99_999 + STOP, ""
    tera = 1 << 40
    yield "1 TiB of bytes", FRAME + b"\x8e" + struct.pack("<Q", tera) + b"x" + STOP, ""
    yield "1 TiB of text", FRAME + b"\x8d" + struct.pack("<Q", tera) + b"x" + STOP, ""
    yield "1 TiB bytearray", b"\x80\x05\x96" + struct.pack("<Q", tera) + b"x" + STOP, ""
    yield "1 TiB frame", FRAME + b"\x95" + struct.pack("<Q", tera) + b"N" + STOP, ""
    yield "1 TiB scalar", FRAME + called(*scalar, called(*dtype, text(f"V{(1 << 31) - 1}"))) + STOP, ""
    yield "1 TiB integer", FRAME + b"\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x" + STOP, ""
    bomb = FRAME + b"\x8e" + struct.pack("<Q", 16 << 20) + bytes(16 << 20) + STOP
    yield "gzip bomb", gzip.compress(bomb, 9, mtime=0), "unpacks to more"
    yield "zlib bomb", zlib.compress(bomb, 9), "unpacks to more"
    yield "bz2 bomb", bz2.compress(bomb), "unpacks to more"
    yield "xz bomb", lzma.compress(bomb, preset=0), "unpacks to more"
    plain = FRAME + evil + STOP
    yield "in gzip", gzip.compress(plain, mtime=0), "os.system"
    yield "in zlib", zlib.compress(plain), "os.system"
    yield "in bz2", bz2.compress(plain), "os.system"
    yield "in xz", lzma.compress(plain), "os.system"
    yield "in lzma", lzma.compress(plain, format=lzma.FORMAT_ALONE), "os.system"
    yield "twice compressed", gzip.compress(zlib.compress(plain), mtime=0), ""
    yield "lz4", b"\x04\x22\x4d\x18" + plain, "lz4"
    yield "broken gzip", gzip.compress(plain, mtime=0)[:-6], ""
    yield "broken zlib", zlib.compress(plain)[:-6], ""
    yield "old joblib", b"ZF0x20                " + zlib.compress(plain), ""
    yield "zip", b"PK\x03\x04" + plain, ""


def mutated(good: bytes, number: int) -> bytes:
    """Return a dump of a model with some of its opcodes replaced, cut, doubled or led elsewhere; the model's bytes stay whole."""
    import random

    chance = random.Random(number)
    model_at = good.index(b"CBM1")
    ends = [position for opcode, argument, position in pickletools.genops(good) if position is not None]
    heads = [position for position in ends if position < model_at - 8] or [2]
    tails = [position for position in ends if position > model_at]
    data = bytearray(good)
    for _ in range(chance.randint(1, 3)):
        at = min(chance.choice(heads + tails), len(data) - 1)
        way = chance.randrange(5)
        if way == 0:
            data[at] = chance.randrange(256)
        elif way == 1:
            data[at:at] = named(
                *chance.choice(
                    [("os", "system"), ("builtins", "eval"), ("numpy", "dtype"), ("catboost.core", "CatBoostRegressor")]
                )
            )
        elif way == 2:
            data[at:at] = called("os", "system", text("touch /tmp/never"))
        elif way == 3:
            data[at:at] = bytes([chance.choice(b"0123456789.(RbsauetdolQP\x81\x85\x92\x93\x94")])
        else:
            del data[at : at + chance.randint(1, 4)]
    return bytes(data)


class Audit:
    """Remembers suspicious events while it is armed."""

    def __init__(self) -> None:
        self.armed = False
        self.events: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        writing = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if writing or event.startswith(SUSPICIOUS):
            self.events.append(f"{event} {arguments!r}"[:200])


def main(folder: Path) -> None:
    """Read every payload and report."""
    import resource

    from demand_maint._training.loading import load_model
    from demand_maint._training.pickles import read_pickle

    # the reader under test runs like this in its child
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    warm_up()
    audit = Audit()
    for path in sorted(folder.glob("*.bin")):
        data = path.read_bytes()
        result: dict[str, Any] = {"file": path.name, "outcome": "loaded", "message": ""}
        audit.events.clear()
        audit.armed = True
        try:
            load_model(read_pickle(data, LIMIT))
        except BaseException as error:
            audit.armed = False
            result |= {"outcome": type(error).__name__, "message": str(error)[:500]}
        audit.armed = False
        result["events"] = list(audit.events)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


def warm_up() -> None:
    """Load what a first good reading imports, so that the hook sees only what a payload causes."""
    import catboost
    import joblib
    import numpy as np

    model = catboost.CatBoostRegressor(iterations=1, verbose=False, allow_writing_files=False).fit(
        [[0.0], [1.0]], [0.0, 1.0]
    )
    stream = io.BytesIO()
    joblib.dump(model, stream)
    from demand_maint._training.loading import load_model
    from demand_maint._training.pickles import read_pickle

    for packed in (stream.getvalue(), gzip.compress(stream.getvalue()), lzma.compress(stream.getvalue())):
        load_model(read_pickle(packed, LIMIT))
    pickle.loads(pickle.dumps(np.float64(1.0)))
    for codec in ("raw_unicode_escape", "unicode_escape", "latin1", "ascii", "utf-8"):
        "x".encode(codec).decode(codec)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
