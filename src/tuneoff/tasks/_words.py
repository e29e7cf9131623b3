"""The words of a text in any script, for scores that compare words."""

from __future__ import annotations

import unicodedata

import regex

NO_ASCII_WORD = regex.compile(r"[^a-z0-9]+")
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u30fc\uff70"
"""Scripts that put no space between words. Each of their letters is taken as a word, with the marks that it carries."""
_LETTER = regex.compile(rf"(?V1)[[{_UNSPACED}]&&\p{{L}}]\p{{M}}*")
_WORD = regex.compile(
    rf"(?V1){_LETTER.pattern}"
    rf"|[[\p{{L}}\p{{N}}]--[{_UNSPACED}]](?:[\u00ad\u200c\u200d]?[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]])*"
)
"""One such letter, or a run of other letters, marks and digits; joiners and soft hyphens do not end it."""
_BEYOND_LATIN = regex.compile(r"(?V1)[[\p{L}\p{Nd}]--[\p{Latin}\p{Common}\p{Inherited}]]|[\p{Nd}--0-9]")
_PICTURE = regex.compile(r"\p{Extended_Pictographic}[\p{M}\p{Emoji_Modifier}]*")
_JOINER = regex.compile("[\u00ad\u200c\u200d]")
_PUNCTUATION = regex.compile(r"[\p{P}$+<=>^`|~]+")
"""ASCII's, as in SQuAD's script, and all that Unicode calls so, as in that of MLQA."""
_ARTICLE = regex.compile(r"\b(a|an|the)\b")


def summary_words(text: str, *, whole: bool = False) -> list[str]:
    """The words that ROUGE compares, in lower case.

    Words in Latin letters are cut as `rouge-score` cuts them, into runs of a-z and 0-9. It drops all other letters;
    here a word that holds letters or digits of another script is one word.

    Args:
        text: any.
        whole: take words with other Latin letters whole, too.
    """
    lower = text.lower()
    if lower.isascii():
        return [word for word in NO_ASCII_WORD.split(lower) if word]
    found: list[str] = []
    for word in _WORD.findall(lower):
        if word.isascii():
            found.append(word)
        elif _BEYOND_LATIN.search(word) or (whole and any(map(str.isalpha, word))):
            found.append(same_form(word))
        else:
            found += [part for part in NO_ASCII_WORD.split(word) if part]
    return found


def answer_words(text: str) -> list[str]:
    """The words that exact match and token F1 compare: no case, punctuation or English articles, as in SQuAD.

    Letters of scripts without spaces are words of their own, as in MLQA, and so are emoji. A text of which nothing
    would be left keeps its articles (an answer `A`), and one of punctuation alone keeps that (a smiley).
    """
    lower = same_form(text.lower())
    bare = _PICTURE.sub(r" \g<0> ", _LETTER.sub(r" \g<0> ", _PUNCTUATION.sub("", lower)))
    return _ARTICLE.sub(" ", bare).split() or bare.split() or lower.split()


def count_words(text: str) -> int:
    """Words between spaces, and letters of scripts that put none."""
    return len((text if text.isascii() else _LETTER.sub(r" \g<0> ", text)).split())


def same_form(text: str) -> str:
    """A text without what makes equal ones differ to a program alone: case, Unicode's form of writing it, joiners."""
    return text if text.isascii() else _JOINER.sub("", unicodedata.normalize("NFKC", text)).casefold()


def cut_words(text: str) -> tuple[int, int]:
    """How many words `summary_words` cuts at Latin letters beyond a-z, and how many words there are."""
    words = _WORD.findall(text.lower())
    cut = sum(not w.isascii() and not _BEYOND_LATIN.search(w) and any(map(str.isalpha, w)) for w in words)
    return cut, len(words)
