"""No module but the disk's opens a file for writing."""

import ast
from pathlib import Path

import demand_maint

PACKAGE = Path(demand_maint.__file__).parent
# the raw calls themselves; the one export whose path a person names, which may be anywhere
ALLOWED = {"_storage/disk.py", "_storage/monitor_exports.py"}
CHANGERS = {
    "write_text", "write_bytes", "touch", "unlink", "rmdir", "rmtree", "symlink_to", "hardlink_to", "copyfile", "copytree",
    "copy2", "ftruncate", "posix_fallocate", "fsync", "fdatasync", "mkstemp", "NamedTemporaryFile", "TemporaryFile", "memmap",
    "tofile",
}  # fmt: skip
OF_OS = {"open", "rename", "replace", "link", "symlink", "remove", "truncate", "pwrite", "mkdir", "makedirs", "renames"}
OF_LIBRARIES = {
    "write_parquet", "write_csv", "write_json", "write_ndjson", "write_ipc", "sink_parquet", "sink_csv", "save_model", "dump",
}  # fmt: skip
IN_MEMORY = {"json", "pickle", "msgspec.json", "ast"}
# our own door and disk have methods of the same names
OUR_DOORS = {
    "door",
    "self.door",
    "self._door",
    "disk",
    "self.disk",
    "self._disk",
    "registry.door",
    "self._registry.door",
}


def _target(call: ast.Call) -> tuple[str, str]:
    if isinstance(call.func, ast.Attribute):
        return ast.unparse(call.func.value), call.func.attr
    return "", call.func.id if isinstance(call.func, ast.Name) else ""


def _mode(call: ast.Call, position: int) -> str:
    given = (
        call.args[position]
        if len(call.args) > position
        else next((k.value for k in call.keywords if k.arg == "mode"), None)
    )
    return str(given.value) if isinstance(given, ast.Constant) else ("r" if given is None else "?")


def _writes(call: ast.Call, inside_writer: bool) -> bool:
    owner, name = _target(call)
    if owner in OUR_DOORS or owner.startswith("Door("):
        return False
    if owner == "os":
        return name in OF_OS | CHANGERS and "os.devnull" not in ast.unparse(call)
    if name == "open":
        plain = owner in {"", "io", "gzip", "bz2", "lzma"}
        return bool(set(_mode(call, 1 if plain else 0)) & set("wax+?" if plain else "wax+"))
    if name in {
        "replace",
        "rename",
    }:  # of a path: one argument; of a text, a frame or a moment it has more, or a mapping
        return (
            len(call.args) == 1
            and not call.keywords
            and not isinstance(call.args[0], ast.Dict | ast.DictComp | ast.Name)
        )
    if name in OF_LIBRARIES and owner and owner not in IN_MEMORY:
        return bool(call.args) and not inside_writer and not _to_memory(call)
    return name in CHANGERS


def _to_memory(call: ast.Call) -> bool:
    return any(
        word in ast.unparse(argument).lower()
        for argument in call.args
        for word in ("stream", "buffer", "bytesio", "memory")
    )


def offences(source: str) -> list[str]:
    """Return the calls in `source` that write to a disk, by line."""
    tree = ast.parse(source)
    frames = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _target(node)[1] == "write_frame"]
    named = {argument.id for call in frames for argument in call.args if isinstance(argument, ast.Name)}
    writers: list[ast.AST] = [*frames]
    writers += [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in named]
    through_door = {inner for writer in writers for inner in ast.walk(writer)}
    return [
        f"line {node.lineno}: {ast.unparse(node)[:80]}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _writes(node, node in through_door)
    ]


def test_every_write_goes_through_the_door() -> None:
    """Scan the package: only the disk's own module opens, renames, links, makes or removes anything."""
    found = {
        str(path.relative_to(PACKAGE)): wrong
        for path in sorted(PACKAGE.rglob("*.py"))
        if str(path.relative_to(PACKAGE)) not in ALLOWED and (wrong := offences(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_the_scan_finds_what_it_looks_for() -> None:
    """Every usual way to write a file is seen, and reading or writing through the door is not mistaken for it."""
    bad = [
        "open('x', 'w')", "open('x', mode='ab')", "path.open('wb')", "path.write_text('x')", "os.open(p, 1)", "path.replace(folder / 'x')",
        "os.replace(a, b)", "os.link(a, b)", "frame.write_parquet(path)", "model.save_model(path)", "os.mkdir(p)",
        "shutil.rmtree(p)", "tempfile.mkstemp()", "np.memmap(p)", "joblib.dump(m, path)", "open(p, mode)",
    ]  # fmt: skip
    good = [
        "open('x')", "open(x, 'rb')", "path.open()", "self.door.replace(a, b)", "door.write_frame(r, lambda p: f.write_parquet(p))",
        "text.replace('a', 'b')", "json.dumps(x)", "joblib.dump(model, stream)", "os.path.join(a)", "door.unlink(x)",
        "self.disk.link(a, b)", "self._door.makedirs(x)", "os.open(os.devnull, os.O_WRONLY)",
        "def save(path):\n    m.save_model(path)\ndoor.write_frame('x', save)",
    ]  # fmt: skip
    assert [code for code in bad if not offences(code)] == []
    assert [code for code in good if offences(code)] == []
