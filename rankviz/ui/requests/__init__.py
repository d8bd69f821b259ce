"""What comes in before any code of the page sees it: bounded, readable, and answered in a sentence where it is not."""
