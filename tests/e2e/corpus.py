"""Real text for the end-to-end tests: what this machine has in /usr/share/doc, and Python's own library."""

import random
import shutil
import sysconfig
from pathlib import Path

DOC_BYTES = 6_000_000
LIBRARY_BYTES = 3_000_000


def copy_documentation(target: Path) -> None:
    """Copy up to DOC_BYTES of /usr/share/doc, whole files in order of path, gzipped ones as they are."""
    source = Path("/usr/share/doc")
    _copy((p for p in sorted(source.rglob("*")) if p.is_file()), source, target, DOC_BYTES)


def copy_library(target: Path) -> None:
    """Copy up to LIBRARY_BYTES of the standard library's top-level modules."""
    source = Path(sysconfig.get_path("stdlib"))
    _copy(sorted(source.glob("*.py")), source, target, LIBRARY_BYTES)


def _copy(paths, source: Path, target: Path, budget_bytes: int) -> None:
    for path in paths:
        size = path.stat().st_size
        if size > budget_bytes or size > 1_000_000:
            continue
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        budget_bytes -= size


def write_oddities(target: Path) -> None:
    """Write what real text seldom has: CRLF, no last newline, no bytes, Latin-1, names to leave out."""
    target.mkdir(parents=True)
    (target / "crlf.txt").write_bytes(b"one two\r\nthree\r\n\r\nfour")
    (target / "empty.txt").write_bytes(b"")
    (target / "latin.txt").write_bytes("na\u00efve caf\u00e9\n".encode("latin-1"))
    (target / "unicode.txt").write_bytes("größe\u2003größe 数 数 𐍈\n".encode() * 100)
    (target / "long line.txt").write_bytes(b"word " * 200_000)
    (target / "_left_out.txt").write_bytes(b"never seen\n")


def write_orders(target: Path, customers: int = 3000, orders: int = 40_000) -> None:
    """Write the two tables of the join, seeded."""
    chance = random.Random(20)
    target.mkdir(parents=True)
    lines = [f"{c}\tcustomer {chance.getrandbits(32):08x}\n" for c in range(1, customers + 1)]
    chance.shuffle(lines)
    (target / "customers.tsv").write_text("".join(lines))
    with (target / "orders.tsv").open("w") as table:
        for order in range(orders):
            customer = min(chance.randint(1, customers + 100), chance.randint(1, customers + 100))
            table.write(f"{order}\t{customer}\t{chance.randint(1, 90_000)}\n")
