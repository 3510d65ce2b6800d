"""Inputs of the targets that take values and not bytes: sequences for `host`, handshakes for `handshake`.

A value is written as the crate arbitrary reads it with what the derive macro makes of a type: from the front,
but for the lengths of byte strings. RUST_LIBFUZZER_DEBUG_PATH=FILE has a target say what it has read.
"""

import re


def number(size, value):
    return (value % (1 << 8 * size)).to_bytes(size, "little")


def many(items):
    """A Vec: each item is announced."""
    return b"".join(b"\1" + item for item in items) + b"\0"


def variant(index, count):
    """Which of the variants of an enum: a u32 that is scaled."""
    return number(4, -(-(index << 32) // count))


def optional(size, value):
    return b"\0" if value is None else b"\1" + number(size, value)


def value_of(kind, value):
    """A field of a Step."""
    inner = re.fullmatch(r"(Vec|Option)<(\w+)>", kind)
    if inner and inner[1] == "Vec":
        return many(value_of(inner[2], item) for item in value)
    if inner:
        return b"\0" if value is None else b"\1" + value_of(inner[2], value)
    size = {"bool": 1, "Choice": 1}.get(kind) or int(kind[1:]) // 8
    return number(size, int(value))


def steps_of(source):
    """What makes a Step of a name and the fields, which are read where they are declared."""
    body = source.read_text().split("pub enum Step {", 1)[1]
    body = re.sub(r"//.*", "", body)
    variants = re.findall(r"^    (\w+)(?: \{(.*?)\})?,$", body, re.DOTALL | re.MULTILINE)
    kinds = {name: re.findall(r"(\w+): ([\w<>]+)", fields) for name, fields in variants}

    def step(name, *values):
        fields = kinds[name]
        assert len(fields) == len(values), f"{name} has {fields}"
        which = variant(list(kinds).index(name), len(kinds))
        return which + b"".join(value_of(kind, v) for (_, kind), v in zip(fields, values))

    return step


# The names in src/words.rs.
F, D, E, L, A, B, UP, SECRET, DOOR, PROC, FIFO, PARENT = range(12)


def hosts(step):
    """Sequences for the host back end that come to something. What a step is about is named by its place
    among the files, open files or sockets that the connection has, the root being file 0."""
    near, far = {}, {}
    near["files"] = [
        ("Create", 0, A, 2, 0o644),
        ("Write", 0, 0, 10, False),
        ("Write", 0, 3, 10, True),
        ("Read", 0, 0, 100),
        ("Allocate", 0, 0, 0, 100),
        ("SetStat", 1, 0x1FF, 0o4755, 0, 5, 1),
        ("Stat", 0, True),
        ("Stat", 1, False),
        ("Flush", 0),
        ("Sync", [0]),
        ("Rename", 0, A, 0, B),
        ("Link", 0, 1, E),
        ("Unlink", 0, B, False),
        ("Read", 0, 0, 100),
        ("Open", 1, 0o1001),
        ("Close", [1]),
        ("CloseOpen", 1),
        ("CloseOpen", 0),
    ]
    near["walks"] = [
        ("Walk", 0, [D, E]),
        ("WalkStat", 0, [D, F]),
        ("WalkStat", 1, []),
        *[("Walk", 0, [name]) for name in (F, L, UP, SECRET, DOOR, PROC, FIFO, PARENT)],
        *[("ReadLink", fd) for fd in range(3, 9)],
        ("Walk", 0, [UP, F]),
        ("Walk", 1, [UP]),
        ("StatFs", 2),
        *[("Open", fd, 0) for fd in range(10)],
        ("Close", [1, 2, 3]),
    ]
    for kind, name in ((1, "stream"), (2, "datagram"), (5, "seqpacket")):
        near[f"sockets_{name}"] = [
            ("Bind", 0, A, kind),
            ("Accept", 0),
            ("Listen", 0, 5),
            ("Connect", 1, kind, None),
            # As if it were to wait.
            ("SetFlags", 0, 0),
            ("Accept", 0),
            ("Accept", 0),
            ("Connect", 1, 0, None),
            ("Connect", 1, kind, 0),
            ("Connect", 1, kind, 7),
            ("Accept", 0),
            ("Listen", 0, -1),
            ("Rename", 0, A, 0, B),
            ("Connect", 1, kind, None),
            ("Accept", 0),
            ("Stat", 1, False),
            ("Open", 1, 0),
            ("Unlink", 0, B, False),
            ("Connect", 1, kind, None),
            ("Listen", 0, 1),
            ("Accept", 0),
            ("CloseBound", 0),
            ("Accept", 0),
            ("Close", [1]),
        ]
    near["closed_while_waiting"] = [
        ("Bind", 0, A, 1),
        ("Listen", 0, 0),
        ("Connect", 1, 1, None),
        ("Connect", 1, 1, None),
        ("Close", [1]),
        ("Accept", 0),
        ("CloseBound", 0),
        ("Bind", 0, A, 1),
        ("Bind", 0, B, 1),
    ]
    near["fifos"] = [
        ("Walk", 0, [FIFO]),
        ("Open", 1, 1),
        ("Open", 1, 0),
        ("Open", 1, 1),
        ("Open", 1, 2),
        # As if they were to wait.
        *[("SetFlags", given, 0) for given in range(3)],
        *[("Read", fd, 0, 10) for fd in range(3)],
        *[("Write", fd, 0, 10, False) for fd in range(3)],
        ("Stat", 0, True),
        ("Sync", [0, 1]),
        ("Allocate", 0, 0, 0, 1),
        ("List", 0, 100),
        ("Flush", 1),
        ("Mknod", 0, A, 0o010600, 0),
        ("Open", 2, 0),
        ("Unlink", 0, A, False),
        ("Open", 2, 2),
        ("CloseOpen", 0),
        ("Close", [1]),
        ("CloseOpen", 0),
    ]
    near["nodes"] = [("Mknod", 0, A, kind, 0x31) for kind in (0o020600, 0o060600, 0o140600, 0o100600)]
    near["nodes"] += [("Open", 1, 2), ("Connect", 1, 1, None), ("Unlink", 0, A, False)]
    near["directories"] = [
        ("Mkdir", 0, A, 0o755),
        ("Open", 0, 0),
        ("List", 0, 2000),
        ("List", 0, 2000),
        ("List", 0, -2000),
        ("List", 0, 30),
        ("Create", 1, B, 1, 0o600),
        ("Rename", 1, B, 0, B),
        ("RenameWith", 0, A, 0, D, 2),
        ("RenameWith", 0, A, 0, B, 1),
        ("Rename", 0, D, 0, E),
        ("Rename", 0, A, 1, E),
        ("Unlink", 0, E, True),
        ("Unlink", 0, E, False),
        ("Open", 1, 0),
        ("Stat", 1, False),
    ]
    near["attributes"] = [("Walk", 0, [F])]
    for name in range(6):
        near["attributes"] += [
            ("SetXattr", 1, name, 10, 0),
            ("GetXattr", 1, name, 0),
            ("GetXattr", 1, name, 100),
            ("SetXattr", 1, name, 20, 2),
            ("ListXattr", 1, 1000),
            ("RemoveXattr", 1, name),
        ]
    near["links"] = []
    for target in range(8):
        near["links"] += [("Symlink", 0, A, target), ("ReadLink", 1), ("Walk", 0, [A, F])]
        near["links"] += [("Open", 1, 0), ("Unlink", 0, A, False), ("Close", [1])]
    near["as_many_as_there_may_be"] = [("Walk", 0, [D, E]), *[("Walk", 0, [F])] * 24]
    near["as_many_as_there_may_be"] += [("Open", 3, 2), *[("Bind", 0, A, 1), ("Walk", 0, [E])] * 8]
    # Of both connections: the number in front says which.
    far["seen_from_both"] = [
        (0, "Create", 0, A, 2, 0o600),
        (1, "Walk", 0, [A]),
        (1, "Open", 1, 2),
        (0, "Write", 0, 0, 20, False),
        (1, "Read", 0, 0, 20),
        (0, "Unlink", 0, A, False),
        (1, "Open", 1, 0),
        (1, "SetStat", 1, 8, 0, 0, 7, 0),
        (0, "Stat", 0, True),
    ]
    far["talk"] = [
        (0, "Walk", 0, [D]),
        (0, "Bind", 1, A, 1),
        (0, "Listen", 0, 9),
        (1, "Walk", 0, [D, A]),
        (1, "Walk", 0, [A]),
        *[(1, "Connect", fd, 1, None) for fd in range(1, 4)],
        (0, "Accept", 0),
        (0, "Accept", 0),
        (1, "Accept", 0),
        (1, "Rename", 0, A, 0, B),
        (1, "Connect", 1, 1, None),
        (0, "Accept", 0),
    ]
    far["moved_away"] = [
        (1, "Walk", 0, [E]),
        (0, "Mkdir", 0, A, 0o700),
        (0, "Rename", 0, D, 1, D),
        (1, "Create", 0, B, 2, 0o600),
        (1, "Walk", 0, [PARENT]),
        (1, "Walk", 1, [PARENT]),
        (0, "Walk", 1, [D, B]),
        (1, "Unlink", 0, E, True),
        (1, "Mkdir", 1, A, 0o700),
    ]
    for name, steps in near.items():
        far[name] = [(0, *step_of_one) for step_of_one in steps]
        far[f"other_{name}"] = [(1, *step_of_one) for step_of_one in steps]
    for name, steps in far.items():
        encoded = many(number(1, who) + step(*what) for who, *what in steps)
        # Read-only, further down, with FIFOs: all but the last say something of the second only.
        for options in ((0, 0, 1), (0, 1, 1), (1, 0, 0)):
            flags = "".join(map(str, options))
            yield f"{name}_{flags}", bytes(options) + encoded


# As flipcall writes it, and gVisor; what both take, and what neither does.
JSON = [b"{}\n", b'{"parking":1}\n', b"null", b' {"a":[1e999,"\\u00e9"],"parking": 1 } x', b""]
JSON += [b"[]", b"{", b'{"parking":2}', b'{"parking":-1}', b'{"a":' + b"[" * 300, b"{}" + b" " * 600]


def handshakes():
    """The inputs of fuzz_targets/handshake.rs."""

    def case(index, *fields):
        return variant(index, 4) + b"".join(fields)

    # Sealed against shrinking, growing, and more seals, as flipcall does it; and otherwise.
    for seals in (0b0111, 0b0011, 0b0010, 0b0000, 0b1111):
        for size, offset, length in [
            (8192, 0, 8192),
            (8192, 4096, 4096),
            (8192, 4096, 8192),
            (8192, 1, 4096),
            (8192, 0, 16),
            (0, 0, 0),
            (8192, -4096, 4096),
            (1 << 21, 0, 1 << 21),
        ]:
            fields = number(4, size), number(1, seals), number(8, offset), number(8, length)
            yield f"window_{seals}_{size}_{offset}_{length}", case(0, *fields)
    for sent, taken in ([1, 1, 0], 2), ([1] * 9, 9), ([], 1):
        yield f"gifts_{len(sent)}_{taken}", case(1, many(map(bytes, zip(sent))), number(1, taken))
    for index, json_bytes in enumerate(JSON):
        for state, short, then in ((1, 0, 4), (1, 1, 0), (0, 0, 4), (1, 0, 4093), (2, 0, 0), (9, 0, 0)):
            front = number(4, state), number(4, len(json_bytes) - short)
            # How long the bytes are is said at the end, in as many bytes as that takes, high first.
            behind = json_bytes + number(4, then)
            size = 1 if len(behind) < 256 else 2
            said = len(json_bytes).to_bytes(size, "big")
            yield f"server_{index}_{state}_{short}_{then}", case(2, *front, behind, said)
        for state, length in ((None, None), (0, 4097), (2, None), (1, 3), (7, 3)):
            fields = optional(4, state), optional(4, length), json_bytes
            yield f"client_{index}_{state}_{length}", case(3, *fields)
