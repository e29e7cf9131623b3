"""The words of a text in any script, for scores that compare words."""

from __future__ import annotations

import unicodedata

import regex

NO_ASCII_WORD = regex.compile(r"[^a-z0-9]+")
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u30fc\uff70"
"""Scripts that put no space between words. Each letter counts as a word, together with its combining marks."""
_LETTER = regex.compile(rf"(?V1)[[{_UNSPACED}]&&\p{{L}}]\p{{M}}*")
_WORD = regex.compile(
    rf"(?V1){_LETTER.pattern}"
    rf"|[[\p{{L}}\p{{N}}]--[{_UNSPACED}]](?:[\u00ad\u200c\u200d]?[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]])*"
)
"""One such letter, or a run of other letters, marks and digits; joiners and soft hyphens do not end it."""
_BEYOND_LATIN = regex.compile(r"(?V1)[[\p{L}\p{Nd}]--[\p{Latin}\p{Common}\p{Inherited}]]|[\p{Nd}--0-9]")
WORD_PATTERN = rf"(?V1){_LETTER.pattern.removeprefix('(?V1)')}|[\w--[{_UNSPACED}]]+|[^\w\s]"
"""A word of a text that is not split yet: such a letter, a run of others and digits, or one other sign."""
_TEXT_WORD = regex.compile(WORD_PATTERN)
_PICTURE = regex.compile(r"\p{Extended_Pictographic}[\p{M}\p{Emoji_Modifier}]*")
_JOINER = regex.compile("[\u00ad\u200c\u200d]")
_PUNCTUATION = regex.compile(r"[\p{P}$+<=>^`|~]+")
"""ASCII's, as in SQuAD's script, and all that Unicode calls so, as in that of MLQA."""
_ARTICLE = regex.compile(r"\b(a|an|the)\b")


def summary_words(text: str, *, whole: bool = False) -> list[str]:
    """Splits a text into the words that ROUGE compares, in lower case.

    Words in Latin letters are cut as `rouge-score` cuts them, into runs of a-z and 0-9. It drops all other letters;
    here a word that holds letters or digits of another script is one word.

    Args:
        text: any.
        whole: take words with other Latin letters whole, too.
    """
    lower = text.lower()
    if lower.isascii():
        return [word for word in NO_ASCII_WORD.split(lower) if word]
    words: list[str] = []
    for word in _WORD.findall(lower):
        if word.isascii():
            words.append(word)
        elif _BEYOND_LATIN.search(word) or (whole and any(map(str.isalpha, word))):
            words.append(same_form(word))
        else:
            words += [part for part in NO_ASCII_WORD.split(word) if part]
    return words


def answer_words(text: str) -> list[str]:
    """Splits a text into the words that exact match and token F1 compare.

    Case, punctuation and English articles are removed, as in SQuAD. Letters of scripts without spaces are words of
    their own, as in MLQA, and so are emoji. A text of which nothing would be left keeps its articles (an answer `A`),
    and one of punctuation alone keeps that (a smiley).
    """
    lower = same_form(text.lower())
    bare = _PICTURE.sub(r" \g<0> ", _LETTER.sub(r" \g<0> ", _PUNCTUATION.sub("", lower)))
    return _ARTICLE.sub(" ", bare).split() or bare.split() or lower.split()


def count_words(text: str) -> int:
    """Counts words between spaces, and each letter of scripts that write no spaces."""
    return len((text if text.isascii() else _LETTER.sub(r" \g<0> ", text)).split())


def word_spans(text: str) -> tuple[tuple[int, int], ...]:
    """Returns where the words of a text begin and end, by `WORD_PATTERN`."""
    return tuple(found.span() for found in _TEXT_WORD.finditer(text))


def same_form(text: str) -> str:
    """Removes differences that a reader does not see: case, Unicode normalisation forms, joiners."""
    return text if text.isascii() else _JOINER.sub("", unicodedata.normalize("NFKC", text)).casefold()


def cut_words(text: str) -> tuple[int, int]:
    """Counts the words that `summary_words` cuts at Latin letters beyond a-z, and all words."""
    words = _WORD.findall(text.lower())
    cut = sum(not w.isascii() and not _BEYOND_LATIN.search(w) and any(map(str.isalpha, w)) for w in words)
    return cut, len(words)
