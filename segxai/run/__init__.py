"""Run: what is asked, found out before it costs hours, and recorded."""
