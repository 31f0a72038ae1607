"""Disk: what a directory may hold after the power went, given the operations before.

What POSIX leaves open is left open. Data that was not fsynced may be there, or not, or half, or be
rubbish or zeros; a change of names is there or not, each apart from the others, until the directory
is fsynced. What is taken for granted: an fsync does what it says, a rename is one change, and bytes
that were durable are not harmed by a write beside them.
"""

from dataclasses import dataclass, field

FATES = ("kept", "dropped", "cut", "garbled", "zeroed")


@dataclass
class _Inode:
    """A file's durable content, and what was done to it since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list = field(default_factory=list)

    def sync(self):
        for operation in self.pending:
            _apply(self.durable, operation)
        self.pending.clear()

    def after_power_cut(self, fate, rng):
        content = bytearray(self.durable)
        for operation in self.pending:
            _apply(content, operation, fate(), rng)
        return bytes(content)


class Disk:
    """One directory; `files` are there, durable, by name."""

    def __init__(self, files):
        self._durable = {name: _Inode(bytearray(content)) for name, content in files.items()}
        self._names = dict(self._durable)
        self._pending = []  # changes of names, each {name: inode, or None where it goes}

    def apply(self, operation):
        """Performs one recorded operation."""
        if operation.kind == "create":
            self._rename({operation.name: _Inode()})
        elif operation.kind == "replace":
            self._rename({operation.target: self._names[operation.name], operation.name: None})
        elif operation.kind == "unlink":
            self._rename({operation.name: None})
        elif operation.kind in ("write", "truncate"):
            self._names[operation.name].pending.append(operation)
        elif operation.name != ".":
            self._names[operation.name].sync()
        else:
            for change in self._pending:
                _rename(self._durable, change)
            self._pending.clear()

    def _rename(self, change):
        _rename(self._names, change)
        self._pending.append(change)

    def after_power_cut(self, rng, survival):
        """One state, as content by name; `survival` is the chance of what was not synced."""

        def fate():
            return "kept" if rng.random() < survival else rng.choice(FATES)

        names = dict(self._durable)
        for change in self._pending:
            if rng.random() < survival:
                _rename(names, change)
        return {name: inode.after_power_cut(fate, rng) for name, inode in names.items()}

    def durable(self):
        """The state in which nothing survived that was not synced."""
        return {name: bytes(inode.durable) for name, inode in self._durable.items()}


def _rename(names, change):
    for name, inode in change.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


def _apply(content, operation, fate="kept", rng=None):
    """Performs a write or a truncate on the content of a file, as far as its fate lets it."""
    if fate == "dropped":
        return
    if operation.kind == "truncate":
        del content[operation.offset :]
        content.extend(bytes(operation.offset - len(content)))
        return
    data = operation.data
    if fate == "cut":
        data = data[: rng.randrange(len(data) + 1)]
    elif fate == "garbled":
        data = rng.randbytes(len(data))
    elif fate == "zeroed":
        data = bytes(len(data))
    content.extend(bytes(max(0, operation.offset - len(content))))
    content[operation.offset : operation.offset + len(data)] = data
