create type credits.maintenance_task as enum (
  'settlement',
  'generations',
  'holds',
  'allotments',
  'stripe_payloads',
  'unclaimed_payments'
);

comment on type credits.maintenance_task is
'What credits.run_maintenance does, in this order: of each task the function credits.sweep_TASK(batch integer), which '
'stands with the rest of its domain. The settlement is first, while no other lock is held that it could be waited for.';
