create function credits.hmac_sha256(secret bytea, message bytea) returns bytea
language sql
immutable
set search_path = ''
as $$
  select sha256(p.outer_pad || sha256(p.inner_pad || message))
  from (
    select
      string_agg(set_byte('\x00', 0, k.byte # 54), '' order by k.at) as inner_pad,
      string_agg(set_byte('\x00', 0, k.byte # 92), '' order by k.at) as outer_pad
    from (
      select
        i.at,
        case when i.at < length(secret) then get_byte(secret, i.at) else 0 end as byte
      from generate_series(0, 63) as i (at)
    ) as k
  ) as p;
$$;

comment on function credits.hmac_sha256(bytea, bytea) is
'HMAC-SHA256 (RFC 2104) of the message, for secrets of at most 64 bytes; without pgcrypto.';
