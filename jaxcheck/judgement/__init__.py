"""From what was measured to a verdict, pure: facts, the table of verdicts, what would have been caught, what kind of
mistake."""
