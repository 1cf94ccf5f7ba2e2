"""A build: a folder that is written whole or not at all, read, run and verified again."""
