"""Whether this machine can train as asked: facts in, checks with sentences out."""
