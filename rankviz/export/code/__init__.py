"""Python that trains: a script for Unsloth, TRL or plain PEFT, and the same as a notebook."""
