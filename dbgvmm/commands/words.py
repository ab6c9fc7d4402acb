"""A command line's words: what stands between blanks, but for those in quotes."""

from __future__ import annotations

import shlex

from dbgvmm.commands.errors import CommandError


def split_words(line: str) -> list[str]:
    """The words, each with its quotes. Raises CommandError for quotes that do not close."""
    words: list[str] = []
    word = quote = ""
    for at, char in enumerate(line):
        escaped = at > 0 and line[at - 1] == "\\" and not line[:at].endswith("\\\\")
        if char.isspace() and not quote and not escaped:
            if word:
                words.append(word)
            word = ""
            continue
        word += char
        if char in "'\"" and not escaped and (not quote or char == quote):
            quote = "" if quote else char
    if quote:
        raise CommandError(f"{line!r}: no closing quotation; close the quotes")
    return [*words, word] if word else words


def typed_words(line: str) -> list[str]:
    """The words of a line that is being typed. The last one is unfinished: it may be empty, and in open quotes has blanks."""
    words: list[str] = []
    word = quote = ""
    for char in line:
        if char.isspace() and not quote:
            words += [word] if word else []
            word = ""
            continue
        word += char
        if char in "'\"" and (not quote or char == quote):
            quote = "" if quote else char
    return [*words, word]


def without_quotes(word: str) -> str:
    """A word as it is meant, with quotes and backslashes read as a shell does."""
    try:
        return " ".join(shlex.split(word))
    except ValueError as error:
        raise CommandError(f"{word!r}: {str(error).lower()}; close the quotes") from error


def split_at(text: str, mark: str) -> list[str]:
    """The parts between `mark`s that are in no quotes and no brackets."""
    parts = [""]
    quote = ""
    depth = 0
    for at, char in enumerate(text):
        if char in "'\"" and text[at - 1 : at] != "\\" and (not quote or char == quote):
            quote = "" if quote else char
        elif not quote:
            depth += (char in "([{") - (char in ")]}")
        if char == mark and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]
