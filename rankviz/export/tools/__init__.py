"""Configuration files of other tools, and which modules those train."""
