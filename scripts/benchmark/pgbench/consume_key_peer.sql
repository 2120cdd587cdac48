\set n random(1, :accounts)
\set key random(1, 9000000000000000000)
select set_config('request.jwt.claims', format('{"sub":"%s","role":"authenticated","aud":"authenticated","exp":9999999999}', md5('user ' || :n)::uuid), true) \; select peer.consume_with_key(md5('user ' || :n)::uuid, 3, 'stable_diffusion', 1, md5('key ' || :key));
