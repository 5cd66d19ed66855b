"""Is my treatment working? From a table of daily severity to effects with honest uncertainty."""
