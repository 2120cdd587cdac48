"""What the catalog says about security, compared with grants.toml and with the rules of the design.

Every function here takes a connection and returns findings: one sentence each, none when all is well.
"""

import tomllib
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import psycopg

ALLOWLIST = Path(__file__).with_name("grants.toml")
KEYS = Path(__file__).with_name("keys.toml")
CHANGES = Path(__file__).with_name("changes.toml")
SCHEMAS = ("public", "credits")
# Who may come through the API, and the two more that the allowlist is about.
ROLES = ("anon", "authenticated", "service_role", "pricing_admin", "authenticator")

Connection = psycopg.Connection[Any]
# {kind: {object: {role: {privilege}}}}. A privilege on columns is written as insert(name, credits).
Grants = dict[str, dict[str, dict[str, set[str]]]]

KINDS = ("schemas", "relations", "sequences", "functions", "types")

# Types in signatures are written in full only when they are not found through the path.
QUALIFIED = "set local search_path = ''"

OBJECTS = """
    select
        'schemas' as kind, n.oid, n.nspname::text as object, n.nspowner as owner, n.nspacl as acl,
        'n' as acl_type
    from pg_namespace as n
    where n.nspname = any(%(schemas)s)
    union all
    select
        case when c.relkind = 'S' then 'sequences' else 'relations' end, c.oid,
        format('%%I.%%I', n.nspname, c.relname),
        c.relowner, c.relacl, case when c.relkind = 'S' then 's' else 'r' end
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select
        'functions', p.oid, format('%%I.%%I(%%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)),
        p.proowner, p.proacl, 'f'
    from pg_proc as p
    inner join pg_namespace as n on p.pronamespace = n.oid
    where n.nspname = any(%(schemas)s)
    union all
    select 'types', t.oid, format('%%I.%%I', n.nspname, t.typname), t.typowner, t.typacl, 'T'
    from pg_type as t
    inner join pg_namespace as n on t.typnamespace = n.oid
    left join pg_class as c on t.typrelid = c.oid
    where
        n.nspname = any(%(schemas)s)
        -- Row types and array types follow their tables and elements.
        and (t.typtype in ('d', 'e', 'r', 'm') or c.relkind = 'c')
"""

GRANTED = f"""
    with objects as ({OBJECTS})

    select o.kind, o.object, null as column_name, a.grantee, a.privilege_type, a.is_grantable, 0 as position
    from objects as o
    cross join lateral aclexplode(coalesce(o.acl, acldefault(o.acl_type::"char", o.owner))) as a
    where a.grantee <> o.owner
    union all
    select o.kind, o.object, c.attname, a.grantee, a.privilege_type, a.is_grantable, c.attnum
    from objects as o
    inner join pg_attribute as c on o.oid = c.attrelid and not c.attisdropped
    cross join lateral aclexplode(c.attacl) as a
    where o.kind = 'relations' and a.grantee <> o.owner
"""  # noqa: S608

RELATION_PRIVILEGES = ("select", "insert", "update", "delete", "truncate", "references", "trigger")


def allowlist(path: Path = ALLOWLIST) -> Grants:
    """The file as {kind: {object: {role: {privilege}}}}."""
    grants: Grants = {}
    for kind, objects in tomllib.loads(path.read_text()).items():
        if kind not in KINDS:
            raise ValueError(f"{path.name}: [{kind}] is not one of {', '.join(KINDS)}.")
        grants[kind] = {}
        for name, roles in objects.items():
            grants[kind][name] = {role: set(privileges) for role, privileges in roles.items()}
    return grants


def granted(connection: Connection) -> Grants:
    """The same from the catalog, owners' rights left out. Every object is there, also one without grants."""
    grants: Grants = {kind: {} for kind in KINDS}
    columns: dict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
    with connection.transaction():
        connection.execute(QUALIFIED)
        schemas = {"schemas": list(SCHEMAS)}
        roles = dict(connection.execute("select oid, rolname::text from pg_roles").fetchall()) | {0: "PUBLIC"}
        for kind, name in connection.execute(
            f"select o.kind, o.object from ({OBJECTS}) as o order by 1, 2",  # noqa: S608
            schemas,
        ):
            grants[kind][name] = {}
        for kind, name, column, grantee, privilege, grantable, position in connection.execute(
            GRANTED, schemas
        ):
            role = roles[grantee]
            verb = privilege.lower() + (" with grant option" if grantable else "")
            if column is None:
                grants[kind][name].setdefault(role, set()).add(verb)
            else:
                columns[name, role, verb].append((position, column))
    for (name, role, verb), found in columns.items():
        listed = ", ".join(column for _, column in sorted(found))
        grants["relations"][name].setdefault(role, set()).add(f"{verb}({listed})")
    return grants


def _words(privileges: set[str]) -> str:
    return ", ".join(sorted(privileges)) or "nothing"


def compare_grants(expected: Grants, actual: Grants) -> list[str]:
    """Where the catalog's grants are not the allowlist's, in either direction."""
    findings = []
    for kind in KINDS:
        wanted, found = expected.get(kind, {}), actual.get(kind, {})
        for name in sorted(wanted.keys() | found.keys()):
            if name not in wanted:
                findings.append(
                    f"{name} has no line in {ALLOWLIST.name}, [{kind}]: say there who may do what with it."
                )
            elif name not in found:
                findings.append(f"{name} stands in {ALLOWLIST.name}, [{kind}], but is not in the database.")
            else:
                for role in sorted(wanted[name].keys() | found[name].keys()):
                    may, can = wanted[name].get(role, set()), found[name].get(role, set())
                    if may != can:
                        findings.append(
                            f"{name}: {role} is granted {_words(can)}, and should have {_words(may)}."
                        )
    return findings


def _covers(privileges: set[str], verb: str, column: str | None = None) -> bool:
    """Whether the listed privileges contain the verb, on the column when one is given."""
    if verb in privileges:
        return True
    for privilege in privileges:
        start, bracket, rest = privilege.partition("(")
        if bracket and start == verb and column in rest.rstrip(")").split(", "):
            return True
    return False


def _questions(connection: Connection) -> list[tuple[str, str, str | None, str, str]]:
    """Every (kind, object, column, verb, SQL that answers for role %s) that can be asked."""
    version = connection.info.server_version
    relation_verbs = RELATION_PRIVILEGES + (("maintain",) if version >= 170000 else ())
    asked: list[tuple[str, str, str | None, str, str]] = []
    for kind, oid, name in connection.execute(
        f"select o.kind, o.oid, o.object from ({OBJECTS}) as o order by 1, 3",  # noqa: S608
        {"schemas": list(SCHEMAS)},
    ).fetchall():
        verbs: tuple[str, ...]
        match kind:
            case "schemas":
                verbs, function = ("usage", "create"), "has_schema_privilege"
            case "sequences":
                verbs, function = ("usage", "select", "update"), "has_sequence_privilege"
            case "functions":
                verbs, function = ("execute",), "has_function_privilege"
            case "types":
                verbs, function = ("usage",), "has_type_privilege"
            case _:
                verbs, function = relation_verbs, "has_table_privilege"
        asked += [(kind, name, None, verb, f"{function}(r.oid, {oid}::oid, '{verb}')") for verb in verbs]
        if kind == "relations":
            columns = connection.execute(
                "select attname::text, attnum from pg_attribute "
                "where attrelid = %s and attnum > 0 and not attisdropped",
                [oid],
            ).fetchall()
            asked += [
                (
                    kind,
                    name,
                    column,
                    verb,
                    f"has_column_privilege(r.oid, {oid}::oid, {number}::int2, '{verb}')",
                )
                for column, number in columns
                for verb in ("select", "insert", "update", "references")
            ]
    return asked


def effective(connection: Connection, expected: Grants) -> list[str]:
    """Where what a role can do, through PUBLIC or another role too, is not what the allowlist says."""
    findings = []
    with connection.transaction():
        connection.execute(QUALIFIED)
        questions = _questions(connection)
        for start in range(0, len(questions), 500):
            part = questions[start : start + 500]
            asked = ", ".join(question[4] for question in part)
            answers = connection.execute(
                f"select r.rolname::text, array[{asked}] from pg_roles as r where r.rolname = any(%s)",  # noqa: S608
                [list(ROLES)],
            )
            for role, row in answers.fetchall():
                for (kind, name, column, verb, _), can in zip(part, row, strict=True):
                    grants: Mapping[str, set[str]] = expected.get(kind, {}).get(name, {})
                    may = _covers(grants.get(role, set()) | grants.get("PUBLIC", set()), verb, column)
                    if may != can:
                        where = f"{name}.{column}" if column else name
                        findings.append(
                            f"{where}: {role} {'can' if can else 'cannot'} {verb}, against {ALLOWLIST.name}."
                        )
    return sorted(findings)


# What money rests on: of these there is at most one row, and only a unique index can say so for two sessions
# at once.
ONCE = (
    ("public.credit_accounts", "user_id"),
    ("public.credit_transactions", "account_id, id"),
    ("public.credit_transactions", "account_id, idempotency_key"),
    ("public.credit_transactions", "account_id, hold_id"),
    ("public.credit_holds", "account_id, idempotency_key"),
    ("public.generation_jobs", "account_id, hold_id"),
    ("credits.stripe_objects", "id"),
    ("credits.stripe_payments", "payment_intent_id"),
    ("public.subscription_plans", "stripe_price_id"),
    ("public.credit_packages", "stripe_price_id"),
    ("public.credit_packages", "slug, currency"),
    ("public.pricing_tiers", "operation, effective_from"),
    ("credits.stripe_customers", "account_id"),
    ("credits.account_addresses", "address, account_id"),
)

# Each finds what breaks a rule of the design: one column, the sentence.
RULES = {
    "what is there once": """
        with needed (relation, columns) as (select * from unnest(%(relations)s::text[], %(columns)s::text[]))

        select format('%%s must have a unique index on (%%s).', d.relation, d.columns)
        from needed as d
        where not exists (
            select from pg_index as i
            where
                i.indrelid = to_regclass(d.relation)
                and i.indisunique and i.indisvalid and i.indimmediate and i.indexprs is null
                and string_to_array(d.columns, ', ') = array(
                    select a.attname::text
                    from unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
                    inner join pg_attribute as a on a.attrelid = i.indrelid and k.attnum = a.attnum
                    order by k.position
                )
                and coalesce(pg_get_expr(i.indpred, i.indrelid), '')
                = any(array['', format('(%%s IS NOT NULL)', split_part(d.columns, ', ', -1))])
        )
        union all
        select format('%%s has an idempotency_key: ONCE must say within what it is unique.',
            a.attrelid::regclass)
        from pg_attribute as a
        inner join pg_class as c on a.attrelid = c.oid
        inner join pg_namespace as n on c.relnamespace = n.oid
        where
            n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p') and a.attname = 'idempotency_key'
            and not exists (
                select from needed as d
                where to_regclass(d.relation) = c.oid and d.columns like '%%%%idempotency_key'
            )
    """,
    "credits do not go below zero": """
        select format('public.credit_accounts.%%I must be credits.credit_amount: no CHECK guards it.',
            a.attname)
        from pg_attribute as a
        where
            a.attrelid = to_regclass('public.credit_accounts') and a.attnum > 0 and not a.attisdropped
            and (a.attname in ('available', 'held', 'lapsed') or a.attname like 'lifetime%%')
            and a.atttypid is distinct from to_regtype('credits.credit_amount')
        union all
        select 'credits.credit_amount must be from 0 to a quadrillion.'
        where not exists (
            select from pg_constraint as k
            where
                k.contypid = to_regtype('credits.credit_amount') and k.convalidated
                and pg_get_constraintdef(k.oid)
                = 'CHECK (((VALUE >= 0) AND (VALUE <= ''1000000000000000''::bigint)))'
        )
    """,
    "row level security": """
        select format('%%I.%%I: row level security must be enabled and forced.', n.nspname, c.relname)
        from pg_class as c
        inner join pg_namespace as n on c.relnamespace = n.oid
        where
            n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p')
            and not (c.relrowsecurity and c.relforcerowsecurity)
    """,
    "policies name their roles": """
        select format('Policy %%I on %%s must say `to` whom.', p.polname, p.polrelid::regclass)
        from pg_policy as p
        inner join pg_class as c on p.polrelid = c.oid
        inner join pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = any(%(schemas)s) and 0 = any(p.polroles)
    """,
    "policies ask for the user once a query": """
        select format('Policy %%I on %%s asks for the user once per row: write (select ...()).',
            p.polname, p.polrelid::regclass)
        from pg_policy as p
        inner join pg_class as c on p.polrelid = c.oid
        inner join pg_namespace as n on c.relnamespace = n.oid
        cross join lateral concat_ws(
            ' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
        ) as condition
        where
            n.nspname = any(%(schemas)s)
            and regexp_replace(condition, 'SELECT (auth\\.\\w+|credits\\.my_\\w+)\\(\\)', '', 'g')
                ~ '(auth\\.\\w+|credits\\.my_\\w+)\\(\\)'
    """,
    "search_path of functions": """
        select format('%%s must have `set search_path = ''''`: it is %%s.', p.oid::regprocedure,
            case when p.prosecdef then 'SECURITY DEFINER' else 'in schema public' end)
        from pg_proc as p
        inner join pg_namespace as n on p.pronamespace = n.oid
        where
            n.nspname = any(%(schemas)s) and (p.prosecdef or n.nspname = 'public')
            and not coalesce(p.proconfig, '{}') @> array['search_path=""']
    """,
    "views run as their reader": """
        select format('%%I.%%I must have security_invoker = true.', n.nspname, c.relname)
        from pg_class as c
        inner join pg_namespace as n on c.relnamespace = n.oid
        where
            n.nspname = any(%(schemas)s) and c.relkind = 'v'
            and not coalesce(c.reloptions, '{}') && array['security_invoker=true', 'security_invoker=on']
    """,
    "no function for PUBLIC": """
        select format('%%s is executable by PUBLIC.', p.oid::regprocedure)
        from pg_proc as p
        inner join pg_namespace as n on p.pronamespace = n.oid
        cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
        where n.nspname = any(%(schemas)s) and a.grantee = 0
    """,
    "realtime publishes credit_accounts only": """
        select format('%%s is published by %%I: only public.credit_accounts may be, by supabase_realtime.',
            r.prrelid::regclass, p.pubname)
        from pg_publication_rel as r
        inner join pg_publication as p on r.prpubid = p.oid
        inner join pg_class as c on r.prrelid = c.oid
        inner join pg_namespace as n on c.relnamespace = n.oid
        where
            n.nspname = any(%(schemas)s)
            and not (p.pubname = 'supabase_realtime' and r.prrelid = 'public.credit_accounts'::regclass)
        union all
        select format('Publication %%I publishes all tables.', p.pubname)
        from pg_publication as p
        where p.puballtables
        union all
        select format('Publication %%I publishes all of schema %%I.', p.pubname, n.nspname)
        from pg_publication_namespace as s
        inner join pg_publication as p on s.pnpubid = p.oid
        inner join pg_namespace as n on s.pnnspid = n.oid
        where n.nspname = any(%(schemas)s)
        union all
        select 'public.credit_accounts is not published by supabase_realtime, which exists.'
        where
            exists (select from pg_publication where pubname = 'supabase_realtime')
            and not exists (
                select from pg_publication_tables
                where
                    pubname = 'supabase_realtime' and schemaname = 'public'
                    and tablename = 'credit_accounts'
            )
    """,
    "old rows carry the primary key only": """
        select format('%%I.%%I has replica identity %%s: old rows would tell more than the primary key.',
            n.nspname, c.relname, c.relreplident)
        from pg_class as c
        inner join pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p') and c.relreplident <> 'd'
    """,
    "maintenance sweeps each of its tasks": """
        with tasks (name) as (
            select format('sweep_%%s', e.enumlabel)
            from pg_enum as e
            where e.enumtypid = to_regtype('credits.maintenance_task')
        ),

        sweeps (name) as (
            select p.proname::text
            from pg_proc as p
            inner join pg_namespace as n on p.pronamespace = n.oid
            where
                n.nspname = 'credits' and starts_with(p.proname, 'sweep_') and p.proargnames[1] = 'batch'
        )

        select case
            when s.name is null then format(
                'credits.maintenance_task: no function credits.%%I(batch integer) does it.', t.name
            )
            else format(
                'credits.%%I is never called: its task is missing in credits.maintenance_task.', s.name
            )
        end
        from tasks as t
        full join sweeps as s using (name)
        where t.name is null or s.name is null
    """,
    "comments": """
        select format('%%I.%%I has no comment.', n.nspname, c.relname)
        from pg_class as c
        inner join pg_namespace as n on c.relnamespace = n.oid
        where
            n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
            and obj_description(c.oid, 'pg_class') is null
        union all
        select format('%%s has no comment.', p.oid::regprocedure)
        from pg_proc as p
        inner join pg_namespace as n on p.pronamespace = n.oid
        where n.nspname = any(%(schemas)s) and obj_description(p.oid, 'pg_proc') is null
    """,
}


def broken_rules(connection: Connection) -> list[str]:
    """The sentences of every rule that is broken, each with the rule's name."""
    findings = []
    with connection.transaction():
        connection.execute(QUALIFIED)
        for rule, query in RULES.items():
            relations, columns = zip(*ONCE, strict=True)
            values = {"schemas": list(SCHEMAS), "relations": list(relations), "columns": list(columns)}
            rows = connection.execute(query, values).fetchall()
            findings += [f"{rule}: {row[0]}" for row in rows]
    return findings


# Rows that belong to an account are found by it first: that serves the history, keeps an app's volume out of
# its ids, and lets one account move to another database. These find what is not so, by section of
# keys.toml: the name there, and what it is.
KEYED = """
    with relations as (
        select
            c.oid, format('%%I.%%I', n.nspname, c.relname) as name,
            coalesce(c.oid = to_regclass('public.credit_accounts'), false) as is_account,
            (
                select string_agg(a.attname::text, ', ' order by k.position)
                from pg_index as i
                cross join unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
                inner join pg_attribute as a on a.attrelid = i.indrelid and k.attnum = a.attnum
                where i.indrelid = c.oid and i.indisprimary and k.position <= i.indnkeyatts
            ) as key
        from pg_class as c
        inner join pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p') and not c.relispartition
    ),

    keyed as (
        select r.oid, r.name, r.is_account
        from relations as r
        where r.is_account or split_part(r.key, ', ', 1) = 'account_id'
    )
"""
UNKEYED = {
    "home": """
        select r.name, format('has the primary key (%%s)', coalesce(r.key, 'none'))
        from relations as r
        where not exists (select from keyed as k where k.oid = r.oid)
        order by r.name
    """,
    "unique": """
        select i.indexrelid::regclass::text, format('is unique on %%s without account_id', k.name)
        from keyed as k
        inner join pg_index as i on k.oid = i.indrelid
        where
            not k.is_account and (i.indisunique or i.indisexclusion)
            and not exists (
                select from unnest(i.indkey::int2[]) with ordinality as p (attnum, position)
                inner join pg_attribute as a on a.attrelid = i.indrelid and p.attnum = a.attnum
                where a.attname = 'account_id' and p.position <= i.indnkeyatts
            )
        order by 1
    """,
    "foreign_keys": """
        select
            format('%%s.%%I', k.name, f.conname),
            format('refers to %%s without account_id', t.name)
        from pg_constraint as f
        inner join keyed as k on f.conrelid = k.oid
        inner join keyed as t on f.confrelid = t.oid
        where
            f.contype = 'f' and f.conparentid = 0
            and not exists (
                select from unnest(f.conkey, f.confkey) as p (here, there)
                inner join pg_attribute as a on a.attrelid = f.conrelid and p.here = a.attnum
                inner join pg_attribute as b on b.attrelid = f.confrelid and p.there = b.attnum
                where
                    a.attname = 'account_id'
                    and b.attname = case when t.is_account then 'id' else 'account_id' end
            )
        order by 1
    """,
}


def _listed(path: Path, sections: Collection[str]) -> dict[str, dict[str, str]]:
    """The file as {section: {name: text}}. ValueError for a section that is none of these."""
    listed: dict[str, dict[str, str]] = tomllib.loads(path.read_text())
    for section in listed.keys() - set(sections):
        raise ValueError(f"{path.name}: [{section}] is not one of {', '.join(sections)}.")
    return listed


def listed_keys(path: Path = KEYS) -> dict[str, dict[str, str]]:
    """keys.toml as {section: {name: reason}}."""
    return _listed(path, UNKEYED)


def unkeyed(connection: Connection, listed: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What is not found by account first, without a listed reason; then what needs none any more."""
    findings = []
    with connection.transaction():
        connection.execute(QUALIFIED)
        for section, query in UNKEYED.items():
            found = dict(connection.execute(KEYED + query, {"schemas": list(SCHEMAS)}).fetchall())
            must = "begin with" if section == "home" else "carry"
            reasons = listed.get(section, {})
            findings += [
                f"{name} {what}: have it {must} account_id, or say in {KEYS.name}, [{section}], why not."
                for name, what in found.items()
                if not reasons.get(name, "").strip()
            ]
            findings += [
                f"{name} stands in {KEYS.name}, [{section}], and needs no reason any more: take it out."
                for name in reasons
                if name not in found
            ]
    return findings


# What each list of changes.toml says to be refused.
REFUSED = {
    "append_only": {"update", "delete", "truncate"},
    "never_deleted": {"delete", "truncate"},
    "changing": set(),
}
REFUSALS = """
    select
        format('%%I.%%I', n.nspname, c.relname),
        v.verb,
        bool_or(t.tgqual is null and t.tgattr = '' and t.tgfoid = to_regproc('credits.refuse_change'))
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    cross join (values ('update', 16), ('delete', 8), ('truncate', 32)) as v (verb, bit)
    left join pg_trigger as t
        on
            c.oid = t.tgrelid
            and t.tgtype & v.bit <> 0
            and t.tgtype & 2 <> 0 -- before
            and t.tgenabled in ('O', 'A')
            and t.tgfoid in (
                to_regproc('credits.refuse_change'), to_regproc('credits.refuse_all_but_erasure')
            )
    where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p')
    group by n.nspname, c.relname, v.verb
    order by 1, 2
"""


def listed_changes(path: Path = CHANGES) -> dict[str, dict[str, str]]:
    """changes.toml as {list: {table: text}}."""
    return _listed(path, REFUSED)


def changeable(connection: Connection, listed: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Where the triggers that refuse a change are not what the lists say, and which table is in none."""
    findings = []
    refused: dict[str, dict[str, bool]] = defaultdict(dict)
    for table, verb, always in connection.execute(REFUSALS, {"schemas": list(SCHEMAS)}).fetchall():
        verbs = refused[table]
        if always is not None:
            verbs[verb] = always
    for table, verbs in refused.items():
        sections = [section for section in REFUSED if table in listed.get(section, {})]
        if len(sections) != 1:
            findings.append(
                f"{table} stands in {len(sections)} lists of {CHANGES.name}: say in one what it refuses."
            )
            continue
        (section,) = sections
        text = listed[section][table].strip()
        if verbs.keys() != REFUSED[section]:
            findings.append(
                f"{table} refuses {_words(set(verbs))}, and should {_words(REFUSED[section])}, "
                f"by {CHANGES.name}, [{section}]."
            )
        elif section == "changing" and not text:
            findings.append(f"{table} refuses nothing: say in {CHANGES.name} why.")
        elif section != "changing" and all(verbs.values()) == bool(text):
            findings.append(
                f"{table} {'always refuses' if text else 'does not always refuse'} "
                f"{_words(REFUSED[section])}: "
                f"{CHANGES.name} says otherwise."
            )
    for section, tables in listed.items():
        findings += [
            f"{table} stands in {CHANGES.name}, [{section}], but is not in the database."
            for table in tables
            if table not in refused
        ]
    return findings


def open_defaults(connection: Connection) -> list[str]:
    """Who could execute a function that the connection's role makes later. Makes one, and undoes it."""
    findings = []
    for schema in SCHEMAS:
        with connection.transaction(force_rollback=True):
            connection.execute(
                f"create function {schema}.probe_of_defaults() returns int language sql as 'select 1'"
            )
            rows = connection.execute(
                "select rolname from pg_roles "
                "where rolname = any(%s) and has_function_privilege(oid, %s::regprocedure, 'execute')",
                [list(ROLES), f"{schema}.probe_of_defaults()"],
            ).fetchall()
            findings += [
                f"{row[0]} could execute every function made in {schema} from now on." for row in rows
            ]
    return findings


def check(connection: Connection) -> list[str]:
    """All of the above."""
    expected = allowlist()
    return [
        *compare_grants(expected, granted(connection)),
        *effective(connection, expected),
        *broken_rules(connection),
        *unkeyed(connection, listed_keys()),
        *changeable(connection, listed_changes()),
        *open_defaults(connection),
    ]
