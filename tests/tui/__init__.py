"""The windows, pressed and looked at."""
