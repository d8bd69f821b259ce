"""Decides what fits, what each setting costs, what to change, and which GPU to choose, from estimates."""
