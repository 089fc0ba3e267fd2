"""Pages over a scheduler for people, load balancers and autoscalers. Shows, never changes; no secret is in it."""
