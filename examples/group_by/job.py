"""Group-by over the output of another job: words of the word count grouped by their length."""


def map_fn(offset, line):
    """Read one line `word<TAB>count` and give (length of the word, (count, word))."""
    word, count = line.rsplit("\t", 1)
    yield len(word), (int(count), word)


def reduce_fn(length, rows):
    """Give (length, "distinct words<TAB>occurrences<TAB>most frequent word"); on a tie the first word."""
    words = 0
    occurrences = 0
    best_count, best_word = 0, ""
    for count, word in rows:
        words += 1
        occurrences += count
        if count > best_count or (count == best_count and word < best_word):
            best_count, best_word = count, word
    yield length, f"{words}\t{occurrences}\t{best_word}"
