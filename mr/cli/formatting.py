"""Plain text for people: aligned tables, sizes, times. Pure. Control characters are escaped."""

import time
from collections.abc import Sequence

from mr.error_text import printable_line

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Columns two spaces apart, as wide as their widest cell; `right` names those flushed right."""
    cells = [[printable_line(cell.replace("\n", " ")) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in (headers, *cells)) for i in range(len(headers))]
    flushed = {i for i, header in enumerate(headers) if header in right}
    return "\n".join(
        "  ".join(
            cell.rjust(widths[i]) if i in flushed else cell.ljust(widths[i]) for i, cell in enumerate(line)
        ).rstrip()
        for line in (headers, *cells)
    )


def fields(pairs: Sequence[tuple[str, str]]) -> str:
    """One `name  value` a line, values aligned; those with an empty value are left out."""
    shown = [(printable_line(name), printable_line(value)) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown)


def size(count: float) -> str:
    """Bytes as `512 B`, `3.4 MiB`."""
    value = float(count)
    for unit in _SIZE_UNITS:
        if value < 1024 or unit == _SIZE_UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def number(count: int) -> str:
    """A count with its thousands apart: `12,345`."""
    return f"{count:,}"


def short_number(count: int) -> str:
    """A count in three digits: `987`, `12.3k`, `4.56M`."""
    value = float(count)
    for unit in ("", "k", "M", "G"):
        if value < 999.5 or unit == "G":
            break
        value /= 1000
    return f"{count}" if not unit else f"{value:.3g}{unit}"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3m05s`, `2h10m`, `4d03h`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def moment(at: float) -> str:
    """Seconds since the epoch as local date and time; empty for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else ""


def percent(share: float) -> str:
    """A share of 0 to 1 as `42%`."""
    return f"{100 * min(max(share, 0.0), 1.0):.0f}%"
