"""Rendering chat templates that nobody has tried, in a process of its own, which may not take all time and memory.

Jinja's sandbox keeps a template from the machine, not from its time and memory. What a template does here for the
longest questions it does later in the run for all.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tinylora.settings.errors import UsageError, first_line

SECONDS = 3.0  # of processor time for all texts; a template takes a thousandth of one for a text
LONGEST_WAIT = 60.0  # seconds, on a machine so busy that this process hardly gets any time
MEMORY = 2**30  # bytes of address space beyond those of this process
LONGEST = 2**20  # characters of a conversation beyond those of its text


def render(tokens: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[str]:
    """Each text as the first message of a conversation, in the tokenizer's template.

    In a process of its own, with limits. Raises UsageError where the template fails, or takes more than they allow.
    """
    context = multiprocessing.get_context("fork")  # as PyTorch's own loaders; another start would import for seconds
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_render, args=(sender, tokens, list(texts)), daemon=True)
    process.start()
    sender.close()
    try:
        found = receiver.recv() if receiver.poll(LONGEST_WAIT) else f"it is not rendered after {LONGEST_WAIT:g} seconds"
    except EOFError:
        process.join()
        too_long = process.exitcode == -signal.SIGPROF
        found = f"it is not rendered after {SECONDS:g} seconds" if too_long else "rendering it ended its process"
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(found, str):
        raise UsageError(
            "the model's chat template (model.chat_template, or its tokenizer's)",
            f"it must be a Jinja template of a conversation: {found}",
            "correct the file, or take the template of a model of the family",
        )
    return list(found)


def render_one(tokens: PreTrainedTokenizerBase, text: str) -> str:
    """One text as the first message of a conversation, in this process."""
    asked = [{"role": "user", "content": text}]
    return str(tokens.apply_chat_template(asked, add_generation_prompt=True, tokenize=False))


def _render(sender: Connection, tokens: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # not what the parent does on them
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends it, also where the parent was killed meanwhile
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError):  # not every system can say or limit it
        pass
    rendered = []
    try:
        for text in texts:
            rendered.append(render_one(tokens, text))
            if len(rendered[-1]) > len(text) + LONGEST:
                sender.send(f"it makes {len(rendered[-1]):,} characters of {len(text)}")
                return
    except MemoryError:
        rendered.clear()
        sender.send(f"it takes more than {MEMORY // 2**20} MiB")
    except Exception as error:  # Jinja's errors, and those of what a template calls
        sender.send(first_line(error))
    else:
        sender.send(rendered)
