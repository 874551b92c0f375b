r"""One spelling for each formula: what LaTeX, Unicode and plain text write in many ways.

`normal` takes a final answer as it was written and gives a text of plain LaTeX: no dollar signs, no spacing commands,
no `\left`; `\frac`, `\sqrt` and powers with braces; words as `\text{...}`. Every substitution takes linear time.
"""

from __future__ import annotations

import functools
import re

from tinylora.answers.brackets import balanced, without_double_brackets

LONGEST = 1500  # characters; a final answer that is longer is compared as text alone
MOST_WRAPPINGS = 64  # braces around braces that are taken off

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2013\u2014\ufe63", "-"),
        **{"\u00d7": r"\times ", "\u00b7": r"\cdot ", "\u22c5": r"\cdot ", "\u00f7": "/", "\u00b1": r"\pm "},
        **{"\u03c0": r"\pi ", "\u221e": r"\infty ", "\u221a": r"\sqrt ", "\u00b0": r"^{\circ}", "\u2220": r"\angle "},
        **{"\u2264": r"\le ", "\u2265": r"\ge ", "\u2260": r"\ne ", "\u222a": r"\cup ", "\u2229": r"\cap "},
        **{"\u2208": r"\in ", "\u03b8": r"\theta ", "\u03b1": r"\alpha ", "\u03b2": r"\beta ", "\u03bb": r"\lambda "},
        **{"\u00bd": r"\frac{1}{2}", "\u00bc": r"\frac{1}{4}", "\u00be": r"\frac{3}{4}", "\u2205": r"\emptyset "},
        **{"\u00b2": "^{2}", "\u00b3": "^{3}", "\u2074": "^{4}", "\u00b9": "^{1}", "\u2044": "/"},
        **dict.fromkeys("\u00a0\u2009\u202f\u2002\u2003\t\r\n", " "),
        **{"\u00a2": " cents"},
        **dict.fromkeys("\u20ac\u00a3\u00a5", ""),
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # of full width, as in Chinese texts
        **{chr(code): "" for code in (*range(9), 11, 12, *range(14, 32), 127)},
    }
)
_TEXT = r"text|textbf|textit|textrm|textnormal|textsf|texttt|mbox|hbox|emph|mathrm|operatorname\*?"
_SUBSTITUTIONS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\A\s*\$?\\\$\s?([0-9][0-9.,]*)\$?\s*\Z", r"\1 dollars"),  # a unit, though it stands in front
        (r"\\(?:begin|end)\{(?:equation|align|aligned|gathered)\*?\}", ""),
        # 1{,}234, 10\,000 and 11,\! 111
        (r"(?<=[0-9])\s?(?:\{\s?,\s?\}|,?\s?\\[!,:; ])\s?(?=[0-9]{3}(?![0-9]))", ""),
        (r"\\\$|\$|(?<!\\)\\[()\[\]!,;:>]|\\(?:quad|qquad|thinspace|displaystyle|textstyle|limits|nolimits)\b", " "),
        (r"(?<!\\)\\ |~", " "),
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])\s{0,3}\.?", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:[lcd]?dots[cbmio]?|vdots|ddots)(?![a-zA-Z])|(?<![0-9.])(?:\.\.\.|\u2026)(?![.0-9])", r"\\ldots "),
        (r"\\lbrace\b", r"\\{"),
        (r"\\rbrace\b", r"\\}"),
        (r"\\(?:mathbf|boldsymbol|bm|vec|mathit|mathsf)\s{0,3}\{([^{}]*)\}", r"\1"),
        (r"(?<![0-9])(?<![0-9] )\\mathrm\s{0,3}\{([a-zA-Z])\}", r"\1"),  # a name; after a digit a unit
        (rf"\\(?:{_TEXT})\s{{0,3}}\{{\s*([^{{}}]*?)\s*\}}", r"\\text{\1}"),
        (r"\\text\{(arcsin|arccos|arctan|sin|cos|tan|sec|csc|cot|exp|log|ln)\}", r"\\\1"),
        (r"\\text\{ ?\}", " "),
        (r"\A ?(?:\\text\{)?(?:[tT]he )?(?:final |correct )?[aA]nswer ?(?:is|:)[:}]{0,2}", ""),
        (r"(?<=[0-9])(?:\^ ?\{? ?)?(?:\\text\{(?:st|nd|rd|th)\} ?\}?|(?:st|nd|rd|th)(?![a-zA-Z]))", ""),
        (r"(?<![a-zA-Z])([apAP])\.[mM]\.?", r"\1m"),
        (r"\\(?:rm|bf|it)\b", ""),
        (r"\\(?:leqslant|leq)\b|<=|=<", r"\\le "),
        (r"\\(?:geqslant|geq)\b|>=", r"\\ge "),
        (r"\\neq\b|(?<![0-9)}])!=", r"\\ne "),
        (r"\\lt\b", "<"),
        (r"\\gt\b", ">"),
        (r"\\%", "%"),
        (r"\*\*", "^"),
        (r"(?<=[0-9]) ?[xX] ?(?=[0-9])", r" \\times "),
        (r"\^\s?\{\s?\\circ\s?\}|\^\s?\\circ\b|\\degree\b|\^\s?\{\s?\\text\{o\}\s?\}", r"^{\\circ}"),
        (r"(?<![a-zA-Z\\])(?:np\.)?(arcsin|arccos|arctan|sin|cos|tan|exp|log|ln|sqrt|pi)(?![a-zA-Z])", r"\\\1"),
        (r"(?<![a-zA-Z\\])(?:infinity|infty|inf|oo)(?![a-zA-Z])", r"\\infty "),
        (r"\+\s?(?=\\infty)", ""),
        (r"\\sqrt\s{0,3}\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\s{0,3}([0-9]+|[a-zA-Z](?![a-zA-Z]))", r"\\sqrt{\1}"),
        (r"\\frac\s{0,3}([0-9a-zA-Z]|\\pi)\s{0,3}([0-9a-zA-Z]|\\pi)", r"\\frac{\1}{\2}"),
        (r"\\frac\s{0,3}([0-9a-zA-Z]|\\pi)\s{0,3}\{", r"\\frac{\1}{"),
        (r"\\frac\s{0,3}(\{[^{}]*\})\s{0,3}([0-9a-zA-Z]|\\pi)", r"\\frac\1{\2}"),
        (r"(?<![0-9.])\.(?=[0-9])", "0."),
        (r"(?<=[0-9])\.(?![0-9.\\])", ""),
        (r"\\simeq(?![a-zA-Z])|\u2248", r"\\approx "),
        (r"\A ?(?:=|\\approx|(?:USD|Rs\.?)(?= ?[0-9])) ?", ""),
        (r"\\in ?\{([^{}]*)\} ?\Z", r"\\in \\{\1\\}"),
        (r"\\langle(?![a-zA-Z])", "("),
        (r"\\rangle(?![a-zA-Z])", ")"),
        (r"\\varnothing(?![a-zA-Z])|\\\{ ?\\\}", r"\\emptyset "),
        (r"\(([0-9A-F]+)\) ?_", r"\1_"),
        (r"\A ?(?:\\text\{)?all real(?:s| numbers)\}? ?\Z|\\mathbb\{?R\}?|\\R(?![a-zA-Z])", r"(-\\infty , \\infty )"),
        (r"\A ?\\text\{([^{}]*[0-9][^{}]*)\} ?\Z", r"\1"),
        (r"\^ ?\{? ?\\prime ?\\prime ?\}?", "''"),
        (r"\^ ?(?:\{ ?\\prime ?\}|\\prime(?![a-z]))", "'"),
        (r"\s{2,}", " "),
    ]
]
_DEGREES = re.compile(r"([0-9]+) ?\^\{\\circ\}")
_EDGE = ' .,;:*`"\u201c\u201d'


@functools.lru_cache(maxsize=4096)  # a gold answer comes with each completion of its group
def normal(text: str) -> str:
    """The one spelling of a final answer (any text); a text longer than `LONGEST` only loses its outer white space."""
    if len(text) > LONGEST:
        return text.strip()
    text = text.translate(_CHARACTERS).strip(" *")  # the stars of Markdown, before ** is read as a power
    for pattern, replacement in _SUBSTITUTIONS:
        text = pattern.sub(replacement, text)
    return _strip_edges(without_double_brackets(text) if "((" in text else text)


def in_radians(text: str) -> str:
    r"""A normal text with its degrees as parts of `\pi`."""
    return _DEGREES.sub(r"(\\frac{\1\\pi}{180})", text)


def compact(text: str) -> str:
    """A normal text without its spaces and the braces around single characters, for comparing texts."""
    return re.sub(r"\{(\w)\}", r"\1", re.sub(r"(?<![0-9]) | (?![0-9])", "", text))


def _strip_edges(text: str) -> str:
    for _ in range(MOST_WRAPPINGS):
        shorter = text.strip(_EDGE).rstrip("\\")
        for left, right in (("\\boxed{", "}"), ("{", "}")):
            if shorter.startswith(left) and shorter.endswith(right) and balanced(shorter[len(left) : -1]):
                shorter = shorter[len(left) : -1]
        if shorter == text:
            break
        text = shorter
    return text
