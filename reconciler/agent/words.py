"""How systemd reads an ExecStart= line: quotes and escapes, then `%%` and `$$`. Pure.

Must not: expand a specifier or a variable. Where systemd would, the reading fails, for then the program would get
words that nobody reviewed.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

_SIMPLE: Dict[str, str] = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "s": " ",
}
_NUMBERED: Dict[str, int] = {"x": 2, "u": 4, "U": 8}
_BLANK = " \t\n\r"


class WordsError(ValueError):
    """The line is not one that systemd would run word for word."""


def split_exec(line: str) -> List[str]:
    """Split the value of ExecStart= into words, quotes and escapes resolved, `%` and `$` as written."""
    words: List[str] = []
    at = 0
    while True:
        while at < len(line) and line[at] in _BLANK:
            at += 1
        if at >= len(line):
            return words
        start = at
        word, at = _word(line, at)
        raw = line[start:at]
        if raw == ";":
            raise WordsError("a bare ; would begin a second command")
        words.append(";" if raw == "\\;" else word)


def resolve(word: str) -> str:
    """Resolve `%%`, `$$` and the empty `%i`; anything else that systemd would expand is an error."""
    out: List[str] = []
    at = 0
    while at < len(word):
        char, after = word[at], word[at + 1 : at + 2]
        if char in "%$" and after == char:
            out.append(char)
            at += 2
            continue
        if char == "%" and after == "i":
            # The instance name, empty in a unit that is no instance: how an empty argument and a lone ; are written.
            at += 2
            continue
        if char == "%" and after:
            raise WordsError(f"systemd would expand %{after}")
        # A word that begins with $ is looked up as a whole; inside a word only the braces count.
        if char == "$" and (at == 0 or after == "{"):
            raise WordsError(f"systemd would expand ${after}")
        out.append(char)
        at += 1
    return "".join(out)


def _word(line: str, at: int) -> Tuple[str, int]:
    out: List[str] = []
    quote = ""
    while at < len(line):
        char = line[at]
        if char == "\\":
            if line[at : at + 2] == "\\;" and (at + 2 == len(line) or line[at + 2] in _BLANK):
                out.append(";")
                at += 2
                continue
            text, at = _escape(line, at + 1)
            out.append(text)
            continue
        if quote:
            if char == quote:
                quote = ""
            else:
                out.append(char)
        elif char in "\"'":
            quote = char
        elif char in _BLANK:
            break
        else:
            out.append(char)
        at += 1
    if quote:
        raise WordsError("a quote is not closed")
    return "".join(out), at


def _escape(line: str, at: int) -> Tuple[str, int]:
    """Read what follows a backslash; bytes written in hexadecimal are UTF-8 together with those beside them."""
    kind = line[at : at + 1]
    if kind in _SIMPLE and kind:
        return _SIMPLE[kind], at + 1
    if kind == "x":
        return _bytes(line, at)
    try:
        if kind in _NUMBERED and kind:
            end = at + 1 + _NUMBERED[kind]
            digits = line[at + 1 : end]
            if len(digits) == _NUMBERED[kind]:
                return chr(int(digits, 16)), end
        if kind.isdigit():
            return chr(int(line[at : at + 3], 8)), at + 3
    except (ValueError, OverflowError):
        pass
    raise WordsError(f"\\{kind} is no escape that systemd knows")


def _bytes(line: str, at: int) -> Tuple[str, int]:
    """Read a run of hexadecimal escapes as the UTF-8 it spells."""
    data = bytearray()
    while line[at : at + 1] == "x":
        try:
            data.append(int(line[at + 1 : at + 3], 16))
        except ValueError as error:
            raise WordsError("\\x needs two hexadecimal digits") from error
        at += 3
        if line[at : at + 2] != "\\x":
            break
        at += 1
    return data.decode("utf-8", "surrogateescape"), at
