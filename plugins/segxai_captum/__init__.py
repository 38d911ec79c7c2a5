"""Attribution methods that people know, of one instance, through the windows that predicted it."""
