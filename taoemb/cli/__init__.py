"""The command line: a file per noun, each command parses, calls the library and prints."""
