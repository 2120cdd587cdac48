\set n random(1, :accounts)
select set_config('request.jwt.claims', format('{"sub":"%s","role":"authenticated","aud":"authenticated","exp":9999999999}', md5('user ' || :n)::uuid), true) \; select bench_consume(md5('user ' || :n)::uuid, 3, 'stable_diffusion', 1);
