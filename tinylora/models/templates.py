"""Chat templates: rendered on a pinned day and without chance, and tried in a process of its own before anything else.

A template may ask for today's date, and so make other prompts tomorrow. Here it gets the day of `model.date`, by both
ways in which templates ask: the function `strftime_now` and the variable `date_string`. What else differs from one time
to the next is refused: Jinja's filter `random`, its `lipsum`, and the addresses of objects.

Jinja's sandbox keeps a template from the machine, not from its time and memory. What a template does here for the
longest questions it does later in the run for all.
"""

from __future__ import annotations

import calendar
import locale
import multiprocessing
import re
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template

from tinylora.settings.errors import UsageError, first_line

SECONDS = 3.0  # of processor time for all texts; a template takes a thousandth of one for a text
LONGEST_WAIT = 60.0  # seconds, on a machine so busy that this process hardly gets any time
MEMORY = 2**30  # bytes of address space beyond those of this process
LONGEST = 2**20  # characters of a conversation beyond those of its text
NOON = time(12)
OF_LLAMA = "%d %b %Y"  # the form of `date_string` in the templates that know it, those of Llama 3 and their heirs
CHANCE = "it draws at random ({}), so the same question would be asked in another way each time"
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,}")  # as Python shows functions, and objects without a text of their own

Message = Mapping[str, str]


def say(tokens: PreTrainedTokenizerBase, day: date, messages: Sequence[Message], asks: bool = True) -> str:
    """A conversation in the tokenizer's template, as on that day; if it `asks`, up to where the answer begins.

    In this process. Raises what the template raises, and Jinja's TemplateError where it draws at random.
    """
    environment = _compile_jinja_template(tokens.get_chat_template()).environment
    # transformers passes no functions on to a template, so they are put where it keeps its own.
    environment.globals |= {"strftime_now": lambda form: written(day, form), "lipsum": _refuse("lipsum")}
    environment.filters["random"] = _refuse("the filter random")
    return str(
        tokens.apply_chat_template(
            [dict(message) for message in messages],
            add_generation_prompt=asks,
            tokenize=False,
            date_string=written(day, OF_LLAMA),
        )
    )


def question(text: str, system: str | None = None) -> list[Message]:
    """A conversation that begins with this text of the user, behind a message of the system where there is one."""
    asked: list[Message] = [{"role": "user", "content": text}]
    return asked if system is None else [{"role": "system", "content": system}, *asked]


def written(day: date, form: str) -> str:
    """Noon of a day in the form of strftime, with English names of months and weekdays whatever the locale is."""
    noon = datetime.combine(day, NOON)
    seconds = str(calendar.timegm(noon.timetuple()))  # C's own %s depends on the time zone of the machine
    form = re.sub("%%|%[-_^#0-9EO]*s", lambda found: "%%" if found[0] == "%%" else seconds, form)
    before = locale.setlocale(locale.LC_TIME)
    locale.setlocale(locale.LC_TIME, "C")
    try:
        return noon.strftime(form)
    finally:
        locale.setlocale(locale.LC_TIME, before)


def render(tokens: PreTrainedTokenizerBase, texts: Sequence[str], day: date, system: str | None = None) -> list[str]:
    """Each text as the first message of a user, behind that of the `system`, in the tokenizer's template on that day.

    In a process of its own, with limits. Raises UsageError where the template fails, takes more than they allow, or
    could render the same conversation in another way.
    """

    def work() -> list[str]:
        _require_constant(tokens, day, question(texts[0], system))
        rendered = []
        for text in texts:
            rendered.append(say(tokens, day, question(text, system)))
            if len(rendered[-1]) > len(text) + len(system or "") + LONGEST:
                raise TemplateError(f"it makes {len(rendered[-1]):,} characters of {len(text)}")
        return rendered

    return list(limited(work))


def limited(work: Callable[[], Any]) -> Any:
    """What `work`, which renders a chat template, returns in a process of its own, with limits.

    Raises UsageError where it fails or takes more than they allow.
    """
    context = multiprocessing.get_context("fork")  # as PyTorch's own loaders; another start would import for seconds
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, work), daemon=True)
    process.start()
    sender.close()
    try:
        waited = receiver.poll(LONGEST_WAIT)
        found, wrong = receiver.recv() if waited else (None, f"it is not rendered after {LONGEST_WAIT:g} seconds")
    except EOFError:
        process.join()
        too_long = process.exitcode == -signal.SIGPROF
        found, wrong = None, f"it is not rendered after {SECONDS:g} seconds" if too_long else "it ended its process"
    finally:
        process.kill()
        process.join()
        receiver.close()
    if wrong is not None:
        raise UsageError(
            "the model's chat template (model.chat_template, or its tokenizer's)",
            f"it must be a Jinja template of a conversation: {wrong}",
            "correct the file, or take the template of a model of the family",
        )
    return found


def _work(sender: Connection, work: Callable[[], Any]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # not what the parent does on them
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends it, also where the parent was killed meanwhile
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError):  # not every system can say or limit it
        pass
    try:
        sender.send((work(), None))
    except MemoryError:
        sender.send((None, f"it takes more than {MEMORY // 2**20} MiB"))
    except Exception as error:  # Jinja's errors, and those of what a template calls
        sender.send((None, first_line(error)))


def _require_constant(tokens: PreTrainedTokenizerBase, day: date, asked: Sequence[Message]) -> None:
    """Raise TemplateError where a template draws at random, in whatever branch, or prints what differs each time."""
    template = tokens.get_chat_template()
    tree = _compile_jinja_template(template).environment.parse(template)
    if any(found.name == "random" for found in tree.find_all(nodes.Filter)):
        raise TemplateError(CHANCE.format("the filter random"))
    if any(found.name == "lipsum" and found.ctx == "load" for found in tree.find_all(nodes.Name)):
        raise TemplateError(CHANCE.format("lipsum"))
    once = say(tokens, day, asked)
    if ADDRESS.search(once) and not any(ADDRESS.search(message["content"]) for message in asked):
        what = re.search("<[^<>]* at 0x", once)
        raise TemplateError(
            f"it prints an object with its address in memory ({what[0] if what else 'at 0x'}...), which differs each "
            "time; a call may lack its parentheses"
        )
    if say(tokens, day, asked) != once:
        raise TemplateError("it renders the same conversation in another way the second time")


def _refuse(name: str) -> Callable[..., str]:
    def raise_error(*_: Any, **__: Any) -> str:
        raise TemplateError(CHANCE.format(name))

    return raise_error
