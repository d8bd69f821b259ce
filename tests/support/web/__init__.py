"""The page, its visitors and their requests, and the Hub as the page asks it."""
