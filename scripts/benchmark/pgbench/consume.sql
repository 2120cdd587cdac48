\set n random(1, :accounts)
select set_config('request.jwt.claims', format('{"sub":"%s","role":"authenticated","aud":"authenticated","exp":9999999999}', md5('user ' || :n)::uuid), true) \; select consume_credits('stable_diffusion');
