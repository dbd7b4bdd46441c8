"""Where a backbone is cut, and what each piece costs."""
