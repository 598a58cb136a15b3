"""What the screens are built from, one a file."""
