"""The calls of the standard library that some systems lack: found in the code, and removed.

Which system has which name, the stubs of the standard library say that mypy brings along
(typeshed): ``if sys.platform != "win32": def pwrite(...)``.
"""

import ast
import functools
import importlib
import mmap
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("processing", "datamodules", "models", "conf", "training", "train_example.py")
PLATFORMS = ("linux", "darwin", "win32")

REMOVABLE = {
    "fcntl": "files are not locked by us: Windows keeps an open file from being removed",
    "mmap.MADV_DONTNEED": "pages stay with the process until the system needs them",
    "mmap.mmap.madvise": "as above",
    "os.O_NOFOLLOW": "a link is looked for before the file is opened",
    "os.POSIX_FADV_WILLNEED": "goes with os.posix_fadvise",
    "os.memfd_create": "torch allocates the shared memory, under a name",
    "os.pidfd_open": "torch's own watch ends workers",
    "os.posix_fadvise": "rows are read when they are needed",
    "os.pwrite": "os.lseek and os.write, under a lock",
    "os.sched_getaffinity": "os.cpu_count",
    "os.stat_result.st_blocks": "the length of the file counts, with its holes",
    "os.sync": "each file of an export is synced on its own",
    "os.writev": "the parts are joined and written",
    "resource": "no limit is known; rows are read when they are needed",
    "resource.RUSAGE_THREAD": "rows are read when they are needed",
    "signal.SIG_BLOCK": "goes with signal.pthread_sigmask",
    "signal.SIG_SETMASK": "goes with signal.pthread_sigmask",
    "signal.SIG_UNBLOCK": "goes with signal.pthread_sigmask",
    "signal.pthread_sigmask": "Ctrl-C reaches worker processes, too",
}
"""Names that Linux has and another system lacks, and how the code goes on without them."""

ELSEWHERE = {
    "fcntl.F_FULLFSYNC": "macOS",
    "os.O_BINARY": "Windows",
}
"""Names that Linux lacks; the tests give it a fake of them."""


@functools.cache
def stub(module):
    """The parsed stub of a module of the standard library; None for another module."""
    import mypy

    stdlib = Path(mypy.__file__).parent / "typeshed" / "stdlib"
    path = stdlib / Path(*module.split("."))
    for candidate in (path.with_suffix(".pyi"), path / "__init__.pyi"):
        if candidate.is_file():
            return ast.parse(candidate.read_text(encoding="utf-8"))
    return None


@functools.cache
def names(module, platform):
    """All names of a module on a platform: ``getpid``, and of its classes ``stat_result.st_dev``.

    The names that it imports do not count: a module that a system lacks has none but these.
    """
    return frozenset(_names(stub(module).body, platform))


def _names(body, platform, prefix=""):
    for node in body:
        if isinstance(node, ast.If):
            yield from _names(node.body if _holds(node.test, platform) else node.orelse, platform)
        elif isinstance(node, ast.ClassDef):
            yield node.name
            for name in _names(node.body, platform):
                yield f"{node.name}.{name}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.ImportFrom):
            # Stubs pass names on as ``from x import y as y``.
            yield from (alias.asname for alias in node.names if alias.asname == alias.name)


def _holds(test, platform):
    """Evaluates a condition on the platform or the version of Python."""
    code = compile(ast.Expression(test), "stub", "eval")
    known = type("sys", (), {"platform": platform, "version_info": sys.version_info})
    return eval(code, {"__builtins__": {}, "sys": known, "TYPE_CHECKING": True})


def used():
    """Yields the names of the standard library that the code uses: (module, name, file)."""
    for entry in CODE:
        path = ROOT / entry
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            yield from ((*found, file) for found in _used(ast.parse(file.read_bytes())))


def _used(tree):
    nodes = list(ast.walk(tree))
    modules = {}  # by the name that the file gives to it
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if stub(node.module) is not None:
                    yield node.module, alias.name
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    modules = {name: module for name, module in modules.items() if stub(module) is not None}
    for owner, name in filter(None, map(_attribute, nodes)):
        if owner in modules:
            yield modules[owner], name
        else:  # perhaps a method of one of their classes
            for module in modules.values():
                yield from ((module, found) for found in _methods(module).get(name, ()))


def _attribute(node):
    """What is read of what: ``("os", "getpid")``; None for another expression."""
    if isinstance(node, ast.Attribute):
        return _dotted(node.value), node.attr
    is_by_name = isinstance(node, ast.Call) and _dotted(node.func) in ("getattr", "hasattr")
    if is_by_name and isinstance(node.args[1], ast.Constant):
        return _dotted(node.args[0]), node.args[1].value
    return None


def _dotted(node):
    """The text of ``os`` or ``os.path``; empty for another expression."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@functools.cache
def _methods(module):
    """By the name of a method or attribute that some system lacks, the classes' names of it."""
    found = {}
    on_all = frozenset.intersection(*(names(module, platform) for platform in PLATFORMS))
    for name in frozenset.union(*(names(module, platform) for platform in PLATFORMS)) - on_all:
        if "." in name and not name.startswith("_"):
            found.setdefault(name.rpartition(".")[2], []).append(name)
    return found


def lacking():
    """The names that the code uses and some system lacks: by name, the files that use it."""
    found = {}
    for module, name, file in used():
        platforms = [platform for platform in PLATFORMS if names(module, platform)]
        if len(platforms) < len(PLATFORMS):
            found.setdefault(module, set()).add(file.relative_to(ROOT).as_posix())
        if any(name in names(module, platform) for platform in platforms) and not all(
            name in names(module, platform) for platform in platforms
        ):
            found.setdefault(f"{module}.{name}", set()).add(file.relative_to(ROOT).as_posix())
    return found


class MapWithoutAdvice(mmap.mmap):
    """A map as on Windows."""

    @property
    def madvise(self):
        """Raises what Python raises if there is no such method."""
        raise AttributeError("madvise")


def remove_all():
    """Removes all of `REMOVABLE` from this process, before the package is imported.

    Other packages keep what they have: they are imported here, while it is there.
    """
    for name in ("cv2", "filelock", "multiprocessing.util", "subprocess", "torch.utils.data"):
        importlib.import_module(name)
    assert "processing" not in sys.modules
    for name in REMOVABLE:
        module, _, attribute = name.rpartition(".")
        if not module:
            sys.modules[name] = None  # importing it raises ImportError
        elif module in ("mmap", "os"):
            delattr(sys.modules[module], attribute)
    mmap.mmap = MapWithoutAdvice
