r"""Words in answers: units around a number, option letters, names, yes and no.

Ours: Math-Verify takes units off whatever they are, and 5 m would be 5 cm; nothing that we know of reads options.
"""

from __future__ import annotations

import re

_FUNCTION = r"\\[a-zA-Z]++"
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_WORD = re.compile(r"[a-zA-Z]{2,}")
_POWER = r"(?: ?\^ ?(?:\{ ?[-0-9]++ ?\}|[0-9]))?"
_UNIT_NAMES = {
    "cm": "centimeter centimeters centimetre centimetres",
    "mm": "millimeter millimeters millimetre millimetres",
    "km": "kilometer kilometers kilometre kilometres",
    "m": "meter meters metre metres",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard yards",
    "mi": "mile miles",
    "g": "gram grams",
    "kg": "kilogram kilograms",
    "lb": "pound pounds lbs",
    "s": "sec secs second seconds",
    "min": "mins minute minutes",
    "h": "hr hrs hour hours",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years yr yrs",
    "dollar": "dollars usd USD",
    "cent": "cents",
    "degree": "degrees deg",
    "radian": "radians rad",
    "l": "liter liters litre litres",
    "ml": "milliliter milliliters",
    "mph": "",
    "unit": "units",
}
_UNITS = {name: unit for unit, names in _UNIT_NAMES.items() for name in (unit, *names.split())}
_BARE_UNIT = "|".join(sorted((name for name in _UNITS if len(name) > 1), key=len, reverse=True))
_ANY_UNIT = "|".join(sorted(_UNITS, key=len, reverse=True))
_UNIT = re.compile(
    rf"(?P<kind>square|sq|cubic)?(?P<name>{_ANY_UNIT})(?:\^(?P<power>[0-9]))?(?:old)?"
    rf"(?:(?:/|per)(?P<below>{_ANY_UNIT})(?:\^(?P<power_below>[0-9]))?)?"
)
_TRAILING = re.compile(
    rf"\s?(?:(?P<percent>%|\\text\{{(?:%|percent|per cent|pct)\}}|(?:percent|pct)(?![a-z]))"
    rf"|(?P<degree>\^\{{\\circ\}}(?: ?[CF](?![a-z])|\\text\{{[CF]\}})?)"
    rf"|\\text\{{(?P<text>[^{{}}]*)\}}{_POWER}"
    rf"|(?P<speed>(?:km|m|mi|ft|cm)/(?:{_BARE_UNIT}|s|h){_POWER})"
    rf"|(?:(?:square|cubic|sq) )?(?P<bare>{_BARE_UNIT}){_POWER}(?: old)?"
    rf"|(?<=[0-9]) (?P<letter>[mgshNJWVKL]){_POWER}"  # `12 m`; without the space it is a product
    rf"|(?<=[0-9}}]) (?P<thing>(?=[a-z]*[aeiouy])[a-z]{{3,}}(?:[ -][a-z]{{2,}}){{0,5}}))\Z"
)
_NUMBERS = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty",
)
SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALE = re.compile(rf"(?<![a-z])(?:{'|'.join(SCALES)})(?![a-z])")
_NO_UNITS = set(
    re.findall(
        r"\w+",
        "and or if for where is are not no nor than less then to from but mod minus plus times over wrong incorrect "
        "impossible half quarter third thirds halves quarters percent squared cubed through",
    )
)
_SHORT_WORDS = set(re.findall(r"\w+", "yes no odd and or not is are the am pm one two six ten all of to"))
_OPTION = re.compile(r"(?:(?:option|choice|answer) )?(?:\(([A-J])\)|([A-J]))[.:) ]*", re.IGNORECASE)
_MARKED_OPTION = re.compile(
    r"(?:(?:option|choice|answer) )?(?:\(([A-J])\)|([A-J])(?=[.:),]))[.:),]*+\s*+(?P<rest>.*)", re.DOTALL
)
_ANOTHER = re.compile(
    r"(?:(?:and|or|nor|&|/) ?)?\(?[A-J]\)? ?(?:\Z|[.,;:]|and\b|or\b)|is (?:not|wrong|incorrect|false)\b"
)
_CHOICE = re.compile(
    r"(?:(?:it is|it's|for sure|surely|clearly|definitely|certainly|option|choice|i choose|i pick|i select"
    r"|(?:the |my )?(?:correct |right |best )?(?:answer|option|choice) is) ){1,3}\(?([A-J])\)?\Z"
    r"|(?:(?:because|since|as|clearly|option|choice) ){0,3}([A-J]) is (?:the )?(?:only )?"
    r"(?:valid|right|correct|true|best|answer|option|choice)(?: (?:one|option|choice|answer))?\Z"
    r"|([A-J]) (?:because|since|as) .*",
    re.IGNORECASE,
)
_MARKS = re.compile(r"[\s;!?'\"\\{}$_*]+|(?<![0-9])[.,:]|[.,:](?![0-9])|(?<=[a-z])-(?=[a-z])")  # no sign or point
_ARTICLES = re.compile(r"\b(?:the|a|an)\b")


def without_unit(text: str) -> tuple[str, str, bool]:
    """A normal text without the unit at its end, the unit's name (empty: none or unknown), and whether it is percent.

    Only what holds a digit or a LaTeX command before the unit has one: words alone are the answer itself.
    """
    found = _TRAILING.search(text, max(0, len(text) - 80))
    value = text[: found.start()].rstrip() if found else ""
    if not found or not re.search(r"[0-9]|\\(?:pi|sqrt|frac)|\A[a-z]\Z", value) or is_words(value):
        return text, "", False
    if found["percent"]:
        return value, "", True
    if found["degree"] and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", value):
        return text, "", False
    written = found["text"] or found["bare"] or found["letter"] or found["thing"] or ""
    name = "degree" if found["degree"] else written.strip().lower()
    if _NO_UNITS & set(name.split()):
        return text, "", False
    if scales := [scale.end() for scale in _SCALE.finditer(text, found.start())]:
        return text[: scales[-1]], "", False  # 5 thousand dollars
    return value, _known_unit(found[0].strip()) if name != "degree" else "degree^1", False


def _known_unit(written: str) -> str:
    r"""One name for a unit, with its power: `cm^2` for `\text{square centimeters}`; empty where it is not known."""
    plain = re.sub(r"\s|[{}]", "", unwrapped(written).replace("squared", "^2").replace("cubed", "^3").lower())
    found = _UNIT.fullmatch(plain)
    if found is None:
        return ""
    power = found["power"] or {"square": "2", "sq": "2", "cubic": "3"}.get(found["kind"] or "", "1")
    below = f"/{_UNITS[found['below']]}" if found["below"] else ""
    return f"{_UNITS[found['name']]}^{power}{below}" + (f"^{found['power_below']}" if found["power_below"] else "")


def is_words(text: str) -> bool:
    """Whether a normal text is prose: it has `\\text`, or words that are no products of names, as `abc` may be."""
    if _TEXT.search(text):
        return True
    words = _WORD.findall(re.sub(_FUNCTION, " ", text))
    return any(len(word) >= 4 or word.lower() in _SHORT_WORDS for word in words)


def unwrapped(text: str) -> str:
    """A normal text with its words bare: `5 m` for `5\\text{m}`."""
    return _TEXT.sub(r" \1 ", text)


def number_word(text: str) -> int | None:
    """The number that a word names (`five`), up to twenty."""
    word = _TEXT.sub(r"\1", text).strip().lower()
    return _NUMBERS.index(word) if word in _NUMBERS else None


def same_words(gold: str, answer: str) -> bool:
    """Whether two texts say the same: letter case, articles, punctuation and `\\text` do not count."""
    letter = option(gold)
    if letter:
        return chosen_option(answer) == letter
    return _bare(gold) == _bare(answer) != ""


def option(text: str) -> str | None:
    """The option letter that the whole of a text is, `(B)`, `b` or `option B`."""
    found = _OPTION.fullmatch(_plain(text))
    return (found[1] or found[2]).upper() if found else None


def chosen_option(text: str) -> str | None:
    """The option letter that a text decides for, with what stands behind it: `(B) 3 and 4`, `D, it cannot be A`.

    None where its first clause names no option or several, or denies one.
    """
    if letter := option(text):
        return letter
    plain = _plain(text)
    if marked := _MARKED_OPTION.match(plain):
        return None if _ANOTHER.match(marked["rest"]) else marked[1] or marked[2]
    choice = _CHOICE.match(re.split(r"[.,;:](?=\s|\Z)", plain, maxsplit=1)[0])
    letter = next(filter(None, choice.groups()), "") if choice else ""
    return letter if letter.isupper() else None


def _plain(text: str) -> str:
    return " ".join(_TEXT.sub(r" \1 ", text).split())


def _bare(text: str) -> str:
    words = _ARTICLES.sub(" ", _TEXT.sub(r" \1 ", text).lower())
    return _MARKS.sub("", words)
