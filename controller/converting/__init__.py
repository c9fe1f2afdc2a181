"""Makes the claim templates that converted pods name.

May use `driver` and the controller's shared modules; none of the other parts.
"""
