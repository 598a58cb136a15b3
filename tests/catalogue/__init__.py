"""The texts of the app and their translations: found in the source, kept in tui/locale, held together by tests."""
