"""What scripts/bench runs: the ledger's speed as ratios to a bare-minimum peer, measured in the same run.

cli.py         arguments, the table, the JSON file
measures.py    what is compared with what: one class a measure
payments.py    the same for Stripe's webhooks
generations.py the same for the function generate, with counter.py, which counts its calls of the database,
               and playback.py, which answers them
runner.py      alternates peer and ours, makes ratios of the pairs
server.py      the benchmark's own stack: databases, pgbench, CPU time and WAL
http_load.py   the load generator for PostgREST, a process of its own
httpx_load.py  the load generator for generate and for its peer
webhooks.py    the function stripe-webhook as it is measured, straight to PostgREST by straight.py
generate.py    the function generate, likewise
machine.py     what the figures were measured on
sql/           the peers, and how the tables are filled
pgbench/       the transactions that pgbench runs
"""
