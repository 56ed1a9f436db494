"""Which agent takes a call that names none."""
