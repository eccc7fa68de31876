"""Messages that failed at every attempt: kept in the ledger until a person puts them back on the queue."""

from __future__ import annotations

from dataclasses import replace

from shared.domain import signals
from shared.domain.ledger import DEAD_LETTERS, DeadLetter
from shared.domain.redaction import without_secrets
from shared.errors import AlreadyExists, Missing, Rejected
from shared.loop import Loop


def keep(loop: Loop, id: str, message: str, error: str) -> DeadLetter:
    """Keep a message with why it was given up. Returns the letter that stands: the first of this ``id``."""
    letter = DeadLetter(id=id, message=message, error=without_secrets(error)[:2000], at=loop.ports.clock.now())
    try:
        return loop.ports.ledger.insert(letter)
    except AlreadyExists:
        return loop.ports.ledger.read(DeadLetter, DEAD_LETTERS, id) or letter


def waiting(loop: Loop) -> list[DeadLetter]:
    """The letters that nobody has put back, the one given up first in front."""
    letters = loop.ports.ledger.list(DeadLetter, DEAD_LETTERS)
    return sorted((letter for letter in letters if letter.replayed_at is None), key=lambda letter: letter.at)


def replay(loop: Loop, id: str) -> bool:
    """Put a message back on the queue, once: False when that was done before.

    A crash in between may put it there twice, which the claim of its signal makes one. Raises Missing when there is no
    such letter, and Rejected when its text is no signal.
    """
    letter = loop.ports.ledger.read(DeadLetter, DEAD_LETTERS, id)
    if letter is None:
        raise Missing(f"no dead letter {id}; landfall events dead lists them")
    if letter.replayed_at is not None:
        return False
    loop.ports.queue.send(signals.from_message(letter.message))
    now = loop.ports.clock.now()
    loop.ports.ledger.update(DeadLetter, DEAD_LETTERS, id, lambda present: replace(present or letter, replayed_at=now))
    return True


def replay_all(loop: Loop) -> tuple[list[str], dict[str, str]]:
    """Put back all that wait. Returns the ids of those, and of each letter that is no signal why it stays."""
    done, refused = [], {}
    for letter in waiting(loop):
        try:
            if replay(loop, letter.id):
                done.append(letter.id)
        except Rejected as error:
            refused[letter.id] = str(error)
    return done, refused
