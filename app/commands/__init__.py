"""One file a verb: add_parser(verbs) and run(args) -> exit code. Heavy imports stay inside run."""
