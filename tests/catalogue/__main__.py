"""Brings the catalogues up to the source and compiles them; says what waits for a translation.

Run: python -m tests.catalogue
"""

from __future__ import annotations

from tests.catalogue import book


def main() -> None:
    """Every language."""
    for language in book.LANGUAGES:
        catalogue = book.updated(book.load(language))
        book.po_path(language).write_bytes(book.written(catalogue))
        book.mo_path(language).write_bytes(book.compiled(catalogue))
        missing = [message for message in catalogue if message.id and not all(book.strings(message))]
        print(f"{language}: {len(catalogue)} texts, {len(missing)} of them without a translation")
        for message in missing:
            print(f"  {message.locations[0][0]}: {book.key_of(message)[1]!r}")


main()
