-- Schema realtime: messages and their policies as Supabase Realtime leaves them, and what realtime/ asks of a change.
-- Run as supabase_admin, after auth.

create schema realtime authorization supabase_admin;
grant all on schema realtime to supabase_realtime_admin;
grant usage on schema realtime to postgres, anon, authenticated, service_role;

set role supabase_realtime_admin;

-- Hosted it is partitioned by day. Policies on it say who may read and write which private topic.
create table realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp not null default now(),
    inserted_at timestamp not null default now(),
    id uuid not null default gen_random_uuid(),
    binary_payload bytea,
    primary key (id, inserted_at),
    constraint messages_payload_exclusive check (payload is null or binary_payload is null)
);
create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
where extension = 'broadcast' and private;

alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to postgres, anon, authenticated, service_role;

-- The topic that is asked about, for policies.
create function realtime.topic() returns text
language sql stable
as $$
    select nullif(current_setting('realtime.topic', true), '')
$$;

-- Broadcasts from SQL, when the transaction commits. A message that fails is a warning, as hosted: it must not
-- take the transaction with it.
create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
language plpgsql
as $$
declare
    new_id uuid := gen_random_uuid();
begin
    perform set_config('realtime.topic', send.topic, true);
    insert into realtime.messages (id, payload, event, topic, private, extension)
    values (
        new_id,
        case when send.payload ? 'id' then send.payload else send.payload || jsonb_build_object('id', new_id) end,
        send.event, send.topic, send.private, 'broadcast'
    );
exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end;
$$;

create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
language plpgsql
as $$
begin
    perform set_config('realtime.topic', send_binary.topic, true);
    insert into realtime.messages (binary_payload, event, topic, private, extension)
    values (send_binary.payload, send_binary.event, send_binary.topic, send_binary.private, 'broadcast');
exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end;
$$;

-- For row triggers: broadcasts what became of a row.
create function realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text, new record, old record,
    level text default 'ROW'
) returns void
language plpgsql
as $$
begin
    if level = 'STATEMENT' then
        raise exception 'function can only be triggered for each row, not for each statement';
    end if;
    if operation not in ('INSERT', 'UPDATE', 'DELETE') then
        raise exception 'Unexpected operation type: %', operation;
    end if;
    perform realtime.send(
        jsonb_build_object(
            'old_record', old, 'record', new, 'operation', operation, 'table', table_name, 'schema', table_schema
        ),
        event_name, topic_name
    );
end;
$$;

-- From here on: what only the local server calls. --------------------------------------------------------------

-- The SQL of one condition of a subscription, {column, operator, operand, negated}, on a value of the column.
create function realtime.local_condition(entity oid, value text, filter jsonb) returns text
language plpgsql stable
as $$
declare
    type text := (
        select format_type(a.atttypid, a.atttypmod)
        from pg_attribute as a
        where a.attrelid = entity and a.attname = filter ->> 0 and a.attnum > 0 and not a.attisdropped
    );
    operand text := filter ->> 2;
    condition text;
begin
    if filter ->> 1 = 'is' then
        condition := format('%L::%s is %s', value, type, operand);
    elsif filter ->> 1 = 'in' then
        condition := format('%L::%s = any (%L::%s[])', value, type, operand, type);
    else
        condition := format(
            '%L::%s %s %L::%s', value, type,
            case filter ->> 1
                when 'eq' then '=' when 'neq' then '<>' when 'lt' then '<' when 'lte' then '<=' when 'gt' then '>'
                when 'gte' then '>=' when 'like' then 'like' when 'ilike' then 'ilike' when 'match' then '~'
                when 'imatch' then '~*' when 'isdistinct' then 'is distinct from'
            end,
            operand, type
        );
    end if;
    return case when (filter ->> 3)::boolean then format('not (%s)', condition) else format('(%s)', condition) end;
end;
$$;

-- Whether a row meets all filters. A column that is not there, as in old rows, meets none.
create function realtime.local_passes(entity oid, names text[], vals text[], filters jsonb) returns boolean
language plpgsql stable
as $$
declare
    conditions text;
    passes boolean;
begin
    if jsonb_array_length(filters) = 0 then
        return true;
    end if;
    if exists (select from jsonb_array_elements(filters) as f (filter) where f.filter ->> 0 <> all (names)) then
        return false;
    end if;
    select string_agg(
        realtime.local_condition(entity, vals[array_position(names, f.filter ->> 0)], f.filter), ' and '
    )
    into conditions
    from jsonb_array_elements(filters) as f (filter);
    execute 'select ' || conditions into passes;
    return coalesce(passes, false);
end;
$$;

-- The published tables that a subscription asks for, and for each the values that its `eq` and `in` filters want, in
-- the form in which rows have them, {column: [value, ...]}, where text tells equality. Raises what is wrong with it.
create function realtime.local_subscribe(
    role text, schema_name text, table_name text, filters jsonb, selected text[]
) returns table (entity oid, wanted jsonb)
language plpgsql stable
as $$
declare
    filter jsonb;
    type oid;
    forms text[];
    named text;
begin
    if not exists (
        select from pg_roles as r where r.rolname = role and pg_has_role('authenticator', r.oid, 'member')
    ) then
        raise exception 'role "%" is none that a token may have', role;
    end if;
    for entity in
        select distinct c.oid
        from pg_publication_tables as p
        inner join pg_namespace as n on p.schemaname = n.nspname
        inner join pg_class as c on n.oid = c.relnamespace and p.tablename = c.relname
        where p.pubname = 'supabase_realtime'
        and schema_name in ('*', p.schemaname) and table_name in ('*', p.tablename)
    loop
        wanted := '{}';
        foreach named in array coalesce(selected, '{}') || array(
            select f ->> 0 from jsonb_array_elements(filters) as f
        ) loop
            if not exists (
                select from pg_attribute as a
                where a.attrelid = entity and a.attname = named and a.attnum > 0 and not a.attisdropped
                and has_column_privilege(role, entity, a.attnum, 'select')
            ) then
                raise exception 'invalid column for % %',
                    case when named = any (selected) then 'select' else 'filter' end, named;
            end if;
        end loop;
        for filter in select f from jsonb_array_elements(filters) as f loop
            perform realtime.local_passes(entity, array[filter ->> 0], array[null], jsonb_build_array(filter));
            -- The text operators look at their operand only when there is a value.
            if filter ->> 1 in ('match', 'imatch') then
                perform '' ~ (filter ->> 2);
            end if;
            select a.atttypid into type
            from pg_attribute as a
            where a.attrelid = entity and a.attname = filter ->> 0;
            if
                filter ->> 1 in ('eq', 'in') and not (filter ->> 3)::boolean
                and type in ('uuid'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'bool'::regtype)
            then
                execute format(
                    'select array(select v::text from unnest(%L::%s[]) as v)',
                    case filter ->> 1 when 'in' then filter ->> 2 else array[filter ->> 2]::text end, type::regtype
                ) into forms;
                -- As rows come: t and f, not true and false.
                if type = 'bool'::regtype then
                    forms := array(select left(form, 1) from unnest(forms) as form);
                end if;
                wanted := wanted || jsonb_build_object(filter ->> 0, forms);
            end if;
        end loop;
        return next;
    end loop;
end;
$$;

-- Values of a row as JSON: numbers, ISO times, JSON as itself, whatever the domain. Of the columns `shown` only.
create function realtime.local_record(entity oid, names text[], vals text[], shown name[], small boolean) returns jsonb
language plpgsql stable
as $$
declare
    pairs text;
    record jsonb;
begin
    select string_agg(
        format('(%L, to_jsonb(%L::%s))', a.attname, v.val, format_type(a.atttypid, a.atttypmod)), ', '
        order by a.attnum
    )
    into pairs
    from unnest(names, vals) as v (name, val)
    inner join pg_attribute as a on v.name = a.attname
    where a.attrelid = entity and a.attnum > 0 and a.attname = any (shown)
    and not (small and octet_length(v.val) > 64);
    if pairs is null then
        return '{}';
    end if;
    execute 'select jsonb_object_agg(name, val) from (values ' || pairs || ') as v (name, val)' into record;
    return record;
end;
$$;

-- What each subscriber sees of one change. `subscribers` is [{number, role, claims, filters, selected}, ...]; the
-- answer has a row for each form of the change, with the numbers of those that get it. Who may not select the row, as
-- it is now, gets nothing; of a deleted row there is nothing to ask any more, so only its key is told.
create function realtime.local_change(
    entity oid, action text, names text[], vals text[], old_names text[], old_vals text[], subscribers jsonb
) returns table (numbers int[], columns jsonb, record jsonb, old_record jsonb, errors text[])
language plpgsql
as $$
declare
    guarded boolean;
    key_names name[];
    key_condition text;
    huge boolean := coalesce(octet_length(vals::text) > 1024 * 1024, false);
    form record;
    subscriber jsonb;
    asked jsonb;
    seen boolean;
    shown name[];
begin
    select c.relrowsecurity into guarded from pg_class as c where c.oid = entity;
    select array_agg(a.attname), string_agg(format('%I = %L', a.attname, v.val), ' and ')
    into key_names, key_condition
    from pg_index as i
    inner join pg_attribute as a on i.indrelid = a.attrelid and a.attnum = any (i.indkey)
    left join unnest(names, vals) as v (name, val) on a.attname = v.name
    where i.indrelid = entity and i.indisprimary;

    for form in
        select s ->> 'role' as role, s -> 'selected' as selected, jsonb_agg(s order by s -> 'claims') as members
        from jsonb_array_elements(subscribers) as s
        group by 1, 2
    loop
        numbers := '{}';
        errors := '{}';
        columns := '[]';
        record := '{}';
        old_record := '{}';
        asked := null;
        if action <> 'DELETE' and key_names is null then
            errors := array['Error 400: Bad Request, no primary key'];
        elsif action <> 'DELETE' and exists (
            select from unnest(key_names) as k (name) where not has_column_privilege(form.role, entity, k.name, 'select')
        ) then
            errors := array['Error 401: Unauthorized'];
        end if;
        for subscriber in select m from jsonb_array_elements(form.members) as m loop
            continue when not (
                realtime.local_passes(entity, names, vals, subscriber -> 'filters')
                or action = 'DELETE' and realtime.local_passes(entity, old_names, old_vals, subscriber -> 'filters')
            );
            if guarded and action <> 'DELETE' and errors = '{}' and asked is distinct from subscriber -> 'claims' then
                asked := subscriber -> 'claims';
                begin
                    perform set_config('request.jwt.claims', asked::text, true), set_config('role', form.role, true);
                    execute format('select exists (select from %s where %s)', entity::regclass, key_condition)
                    into seen;
                exception when others then
                    seen := false;  -- a policy that fails lets nobody in
                end;
                perform set_config('role', 'none', true);
            end if;
            if not guarded or action = 'DELETE' or errors <> '{}' or seen then
                numbers := numbers || (subscriber ->> 'number')::int;
            end if;
        end loop;
        continue when numbers = '{}';
        if errors = '{}' then
            select
                array_agg(a.attname), jsonb_agg(jsonb_build_object('name', a.attname, 'type', t.typname) order by a.attnum)
            into shown, columns
            from pg_attribute as a
            inner join pg_type as t on a.atttypid = t.oid
            where a.attrelid = entity and a.attnum > 0 and not a.attisdropped
            and has_column_privilege(form.role, entity, a.attnum, 'select')
            and (form.selected = 'null' or form.selected ? a.attname or a.attname = any (key_names));
            if huge then
                errors := array['Error 413: Payload Too Large'];
            end if;
            if action <> 'DELETE' then
                record := realtime.local_record(entity, names, vals, shown, huge);
            elsif guarded then
                shown := array(select s.name from unnest(shown) as s (name) where s.name = any (key_names));
            end if;
            old_record := realtime.local_record(entity, old_names, old_vals, shown, huge);
        end if;
        return next;
    end loop;
end;
$$;

-- Which of broadcast and presence a token may read and write on a private topic. It asks the policies, with rows
-- that nobody else ever sees: they are taken back.
create function realtime.local_rights(topic text, claims jsonb, headers jsonb)
returns table (extension text, reads boolean, writes boolean)
language plpgsql
as $$
declare
    probe uuid;
begin
    foreach extension in array array['broadcast', 'presence'] loop
        reads := false;
        writes := false;
        probe := gen_random_uuid();
        begin
            insert into realtime.messages (id, topic, extension, private)
            values (probe, local_rights.topic, local_rights.extension, true);
            perform
                set_config('realtime.topic', local_rights.topic, true),
                set_config('request.jwt.claims', local_rights.claims::text, true),
                set_config('request.headers', local_rights.headers::text, true),
                set_config('role', local_rights.claims ->> 'role', true);
            select exists (select from realtime.messages as m where m.id = probe) into reads;
            begin
                insert into realtime.messages (topic, extension, private)
                values (local_rights.topic, local_rights.extension, true);
                writes := true;
            exception when insufficient_privilege then
                null;
            end;
            raise exception using errcode = 'ZZ000', message = 'taken back';
        exception when sqlstate 'ZZ000' then
            null;
        end;
        return next;
    end loop;
end;
$$;

-- Functions are everybody's to call unless that is taken away; policies and triggers need the first four.
revoke execute on function
    realtime.local_condition(oid, text, jsonb), realtime.local_passes(oid, text[], text[], jsonb),
    realtime.local_subscribe(text, text, text, jsonb, text[]),
    realtime.local_record(oid, text[], text[], name[], boolean),
    realtime.local_change(oid, text, text[], text[], text[], text[], jsonb),
    realtime.local_rights(text, jsonb, jsonb)
from public;

reset role;

create publication supabase_realtime_messages_publication for table only realtime.messages;
