-- Roles belong to the cluster, so another database of the same cluster may have made it already.
do $$
begin
  create role pricing_admin nologin;
exception
  when duplicate_object then null;
end
$$;

-- So that postgres can `set role pricing_admin` to see what it may do; since Postgres 16 making a role does not say so.
grant pricing_admin to postgres;

comment on role pricing_admin is
'Credits: a DBA who sets prices. May read, insert and update pricing_tiers, credit_packages, subscription_plans (of a '
'row that is there, not what its Stripe Price says) and credits.provider_costs, and read the price history; nothing '
'else. Give it to a login: grant pricing_admin to NAME.';

grant usage on schema public, credits to pricing_admin;
