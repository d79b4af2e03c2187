"""Topic exchanges in memory match routing keys as RabbitMQ does."""

from hypothesis import given
from hypothesis import strategies as st

from mr.adapters.memory.exchange import topic_matches

words = st.lists(st.sampled_from(["a", "b", "job"]), min_size=1, max_size=5)


@given(key=words)
def test_a_key_matches_itself_any_word_and_anything(key: list[str]) -> None:
    text = ".".join(key)
    assert topic_matches(text, text)
    assert topic_matches("#", text)
    assert topic_matches(".".join("*" for _ in key), text)
    assert topic_matches(f"#.{text}.#", text)
    assert not topic_matches(f"{text}.*", text)
    assert not topic_matches(f"*.{text}", text)


@given(before=words, after=words)
def test_a_hash_stands_for_any_number_of_words(before: list[str], after: list[str]) -> None:
    assert topic_matches(f"{before[0]}.#", ".".join([before[0], *after]))
    assert topic_matches(f"#.{after[-1]}", ".".join([*before, after[-1]]))
    assert topic_matches(f"{before[0]}.#.{after[-1]}", ".".join([*before, *after]))
