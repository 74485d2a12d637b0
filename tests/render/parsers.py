"""A model of the three readings a value survives, written from how the programs behave, not from our encoders.

`quadlet_words` is how podman splits a key's value, `quadlet_line` how it writes words into ExecStart=, `systemd_words`
how systemd reads that line. The lab test holds the real programs to the same values.
"""

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_BLANK = " \t\n\r"


def logical_value(line: str) -> str:
    """What both parsers make of `Key=value` before anything else: ends trimmed, a last backslash refused."""
    value = line.strip()
    if value.endswith("\\"):
        raise ValueError("the backslash swallows the next line")
    return value


def quadlet_words(value: str) -> list[str]:
    """Split as podman does: a word that is empty ends it all, without a word of warning."""
    words = []
    for word in _split(value):
        if not word:
            break
        words.append(word)
    return words


def quadlet_line(words: list[str]) -> str:
    """Join as podman does: only white space, quotes and backslashes are protected."""
    return " ".join(_protected(word) for word in words)


def _protected(word: str) -> str:
    if any((char.isspace() and char.isascii()) or char in "\"'\\" for char in word):
        return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return word


def systemd_words(line: str) -> list[list[str]]:
    """Read ExecStart= as systemd does: several commands when a `;` stands alone, specifiers and variables resolved."""
    commands: list[list[str]] = [[]]
    for raw, word in _split_raw(line):
        if raw == ";":
            commands.append([])
        else:
            commands[-1].append(_variables(specifiers(word)))
    return commands


def specifiers(text: str) -> str:
    """Expand `%%` and the empty `%i`; any other specifier is a failure of the encoder."""
    out, at = "", 0
    while at < len(text):
        if text[at] != "%":
            out += text[at]
            at += 1
            continue
        match text[at + 1 : at + 2]:
            case "%":
                out += "%"
            case "i":
                pass
            case other:
                raise ValueError(f"systemd would expand %{other}")
        at += 2
    return out


def _variables(word: str) -> str:
    if word.startswith("$") and word[1:2] not in {"$", "{"}:
        raise ValueError("systemd would split a variable into words")
    out, at = "", 0
    while at < len(word):
        two = word[at : at + 2]
        if two == "${":
            raise ValueError("systemd would expand a variable")
        out += "$" if two == "$$" else word[at]
        at += 2 if two == "$$" else 1
    return out


def _split(text: str) -> list[str]:
    return [word for _, word in _split_raw(text)]


def _split_raw(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        if text[at] in _BLANK:
            at += 1
            continue
        begin, word, quote = at, "", ""
        while at < len(text) and (quote or text[at] not in _BLANK):
            char = text[at]
            if char == "\\":
                at += 1
                word += _ESCAPES.get(text[at], text[at] if text[at] in "\\\"'" else "")
                if text[at] not in _ESCAPES and text[at] not in "\\\"'":
                    raise ValueError(f"unknown escape \\{text[at]}")
            elif quote:
                quote, word = ("", word) if char == quote else (quote, word + char)
            elif char in "\"'":
                quote = char
            else:
                word += char
            at += 1
        if quote:
            raise ValueError("a quote is not closed")
        found.append((text[begin:at], word))
    return found
