"""What the commands in ``hack/`` are made of. Standard library only: they run before any virtual environment exists."""
