"""Worlds that users have, in one language for promtool and for a real store: every alert and panel is asked in each."""
