"""Admission: what a ResourceClaim or template asks for is carried over before the API server drops it.

Flow: `review` answers an AdmissionReview; `server` serves it by HTTPS in every replica; `certificates` makes
what HTTPS needs, `keeper` keeps it in a Secret and tells the API server whom to trust.

Limits: the webhook objects are the chart's; only their `caBundle` is written here. Admission creates nothing
and remembers nothing, so a dry run is like any other request.
"""
