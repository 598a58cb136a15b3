"""The questions that the app asks, one a file."""
