"""The project's Markdown documents: their generated sections, their links, and what they name.

`python -m tests.support.documents` (`make docs`) writes every `<!-- generated: NAME -->` section anew;
`tests/unit/test_documents.py` fails when one drifts, when a link leads nowhere, and when a document names
a command, a flag or a setting that does not exist.
"""

import re
from pathlib import Path

from tests.support.reference import SECTIONS

ROOT = Path(__file__).parents[2]

_SECTION = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def documents() -> list[Path]:
    """Every Markdown file that belongs to the project."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted(found)


def sections(text: str) -> list[str]:
    """The names of the generated sections of a document."""
    return [match[2] for match in _SECTION.finditer(text)]


def render(text: str) -> str:
    """Fill every generated section anew. Raises KeyError for a name that nothing generates."""
    return _SECTION.sub(lambda match: f"{match[1]}{SECTIONS[match[2]]().strip()}\n{match[3]}", text)


def links(text: str) -> list[str]:
    """The targets of the links of a document, outside its code blocks."""
    return _LINK.findall(_FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", _FENCE.sub("", text), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        repeated = sum(1 for anchor in found if re.fullmatch(rf"{re.escape(words)}(-\d+)?", anchor))
        found.add(f"{words}-{repeated}" if repeated else words)
    return found


if __name__ == "__main__":
    for document in documents():
        before = document.read_text()
        after = render(before)
        if after != before:
            document.write_text(after)
            print(f"written: {document.relative_to(ROOT)}")
