"""ARCHITECTURE.md says what the code says."""

from tests.support.architecture import DOCUMENT, render


def test_generated_sections_are_current() -> None:
    text = DOCUMENT.read_text()
    assert render(text) == text, "run `make docs`"
