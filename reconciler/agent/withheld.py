"""Which words of a command line, and which variables, hold a secret: by their name, or by what the value looks like.

Rather too much than too little: what is left out is told by its name, and a person writes it.

Must not: return a value that it takes for a secret, in whatever form. Pure.
"""

import re
from typing import Iterable, List, Optional, Set, Tuple

# Parts of names that sound like secrets and are none.
_PLAIN = re.compile(
    r"(?i)TOKENIZ[A-Z]*|(?:MAX|MIN|NUM|N|TOTAL|NEW|SPECIAL|PROMPT|RETURN|STOP)[-_](?:[A-Z]+[-_])*TOKENS(?![A-Z])"
    r"|TOKEN[-_](?:IDS?|THRESHOLD|LIMIT|COUNT|LENGTH|BUDGET)(?![A-Z])"
    r"|BYPASS|COMPASS|AUTHORS?(?![A-Z])|PUBLIC[-_]KEY"
)
_SECRET = re.compile(
    r"(?i)TOKEN|SECRET|PASSW|PASSPHRASE|PASS$|API[-_]?KEY|PRIVATE|CREDENTIAL|CREDS|ACCESS[-_]?KEY|AUTH|(?:^|[-_])KEYS?$"
)
_IN_VALUE = re.compile(
    r"(?:^|[\s'\"=,:;{}()\[\]])(?:hf_|sk-|ghp_|github_pat_|glpat-|nvapi-|AKIA|eyJ|-----BEGIN )|://[^/@\s]*:[^/@\s]+@"
)
_FLAG = re.compile(r"--?[A-Za-z][\w-]*\Z")
_NEXT_FLAG = re.compile(r"--[A-Za-z]|-[A-Za-z]\Z")
# A name with its value inside a longer text: of a shell, as JSON, as a header.
_GIVEN = re.compile(
    r"(--?[A-Za-z][\w-]*|[A-Za-z_][\w-]*(?=['\"]?\s*[=:]))['\"]?(?:\s*[=:]\s*|\s+)(?!--[A-Za-z]|-[A-Za-z](?:\s|$))(?=\S)"
)


def is_secret(name: str) -> bool:
    """Say whether a variable or flag of that name has a secret for a value."""
    return _SECRET.search(_PLAIN.sub(" ", name.lstrip("-"))) is not None


def given_away(text: str) -> Optional[str]:
    """Return by what name a text holds a secret: empty when its looks alone say so, None when it holds none."""
    if _IN_VALUE.search(text):
        return ""
    return next((found[1] for found in _GIVEN.finditer(text) if is_secret(found[1])), None)


def without_secrets(words: Iterable[str], *, joined: bool = False) -> Tuple[List[str], List[str]]:
    """Return a command line without its secrets and the flags that had them, and how what was left out is called.

    Of a variable that podman is given only the name is kept. `joined` are words that were cut at every space: there a
    value goes on up to the next flag.
    """
    kept: List[str] = []
    told: Set[str] = set()
    is_value, is_rest = False, False
    for number, word in enumerate(words, 1):
        is_flag = _NEXT_FLAG.match(word) is not None
        before = kept[-1] if kept and _FLAG.match(kept[-1]) else ""
        if is_rest and not word.startswith("-"):
            continue
        is_rest = False
        variable = _variable(before, word)
        if variable is not None:
            flag, name, value = variable
            kept.append(flag + name)
            is_rest = joined
            told |= {name} if is_secret(name) or given_away(value) is not None else set()
        elif is_value and not is_flag:
            told.add(kept.pop())
            is_rest = joined
        elif given_away(word) is not None or (joined and not is_flag and given_away(f"{word} x") is not None):
            # Where it was cut, the value of a name such as `Authorization:` is among the words that follow.
            if before and not is_flag:
                kept.pop()
            told.add(_called(before, word, number))
            is_rest = joined
        else:
            kept.append(word)
        is_value = bool(kept) and kept[-1] == word and _FLAG.match(word) is not None and is_secret(word)
    return kept, sorted(told)


def _variable(before: str, word: str) -> Optional[Tuple[str, str, str]]:
    """Return flag, name and value of a variable that podman or docker is given."""
    if before in ("-e", "--env"):
        flag, rest = "", word
    elif word.startswith("--env="):
        flag, rest = "--env=", word[len("--env=") :]
    elif re.match(r"-e[A-Za-z_]\w*=", word):
        flag, rest = "-e", word[2:]
    else:
        return None
    name, equals, value = rest.partition("=")
    return (flag, name, value) if equals and re.match(r"[A-Za-z_][\w.-]*\Z", name) else None


def _called(before: str, word: str, number: int) -> str:
    """Return what a word that holds a secret is called: its own flag, the flag before it, its name, or its place."""
    own = word.partition("=")[0]
    if re.match(r"--[A-Za-z][\w-]*\Z", own) and own != word:
        return own
    name = given_away(word)
    if before and not word.startswith("--"):
        return f"{before} ({name})" if name else before
    return name or f"argument {number}"
