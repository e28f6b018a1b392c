"""Orders summaries from the worker, for two users. See tasks.py.

Run it with: posthog-instrument python order.py
"""

from tasks import summarise

from posthog_autoinstrument import posthog_context

orders = []
for user in ("ann", "bob"):
    with posthog_context(distinct_id=user, properties={"plan": "pro"}):
        orders.append(summarise.delay(f"A long letter of {user}."))

for order in orders:
    print(order.get(timeout=60))
