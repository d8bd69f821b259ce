"""`rankviz sweep` and `rankviz runs ...`: runs started, followed, shown and published."""
