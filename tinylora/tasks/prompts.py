r"""The named prompts: what a question is followed by, and how a demonstration ends so that it answers the prompt.

boxed    SimpleRL's `qwen-boxed` (the paper's MATH runs): reason step by step, answer within \boxed{}; the system
         message that belongs to it is `task.system_message`
hash     verl's GSM8K prompt: think step by step, answer after "####"
plain    the question alone
"""

from __future__ import annotations

import hashlib
import json
import re

from tinylora.answers.extraction import last_box
from tinylora.settings.choices import Template

INSTRUCTIONS: dict[Template, str] = {
    Template.boxed: "\nPlease reason step by step, and put your final answer within \\boxed{}.",
    Template.hash: ' Let\'s think step by step and output the final answer after "####".',
    Template.plain: "",
}

_CALCULATOR_NOTE = re.compile(r"<<[^<>\n]*>>")


def prompt_of(question: str, template: Template) -> str:
    """The user's message: the question and what is asked of the answer."""
    return question + INSTRUCTIONS[template]


def answer_in_a_sentence(answer: str) -> str:
    """What SFT learns from where a problem has an answer and no solution."""
    return f"The answer is {answer}."


def prompt_digest(text: str, chat: bool, system: str | None = None) -> str:
    """16 hex digits that identify how a task asks.

    That is: what it adds to a question, whether it is a conversation, and what the system says first.
    """
    said = [text, chat] if system is None else [text, chat, system]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def demonstration_of(solution: str, answer: str, template: Template) -> str:
    r"""A solution that ends as the template asks.

    GSM8K's solutions end in `#### N` and lose their <<...>> calculator notes; MATH's hold their \boxed already.
    """
    reasoning, mark, _ = solution.rpartition("####")
    if mark:
        kept = reasoning if template is Template.boxed else solution
        text = _CALCULATOR_NOTE.sub("", kept).strip()
    else:
        text = solution.strip()
    if template is Template.boxed and last_box(text) is None:
        return f"{text}\n\\boxed{{{answer}}}"
    if template is Template.hash and not mark:
        return f"{text}\n#### {answer}"
    return text
